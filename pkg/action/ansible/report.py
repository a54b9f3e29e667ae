# Tells riposte what failed, and what each host came to, whatever prints the progress for people.
import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: riposte
type: notification
short_description: reports failures and totals as JSON lines
description: Each failed task, each unreachable host and the totals of each host are a line of the file that RIPOSTE_ANSIBLE_REPORT names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "riposte"
    CALLBACK_NEEDS_ENABLED = True

    def _tell(self, **record):
        with open(os.environ["RIPOSTE_ANSIBLE_REPORT"], "a", encoding="utf-8") as report:
            report.write(json.dumps(record) + "\n")

    def _failed(self, result):
        # The names without an underscore came with ansible-core 2.19.
        host = getattr(result, "host", None) or result._host
        task = getattr(result, "task", None) or result._task
        said = getattr(result, "result", None) or result._result
        text = said.get("msg") or said.get("stderr") or said.get("censored") or ""
        self._tell(host=host.get_name(), task=task.get_name().strip(), path=task.get_path() or "", msg=str(text)[:1000])

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self._failed(result)

    def v2_runner_on_unreachable(self, result):
        self._failed(result)

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            self._tell(host=host, stats=stats.summarize(host))
        self._tell(end=True)
