package ansible

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/riposte-dev/riposte/pkg/action"
)

const (
	maxHosts    = 200
	maxFailures = 5
	maxReason   = 400 // bytes of each
	maxLine     = 64 << 10
)

// report is what a playbook came to.
type report struct {
	failures []failed
	hosts    []host // in the order of their names
	whole    bool   // it came to its end
}

// failed is a task that failed on a host, or could not reach it.
type failed struct{ Host, Task, Path, Msg string }

type host struct {
	name  string
	stats stats
}

// stats are the totals of a host (AggregateStats.summarize).
type stats struct {
	OK          int64 `json:"ok"`
	Changed     int64 `json:"changed"`
	Failures    int64 `json:"failures"`
	Unreachable int64 `json:"unreachable"`
	Skipped     int64 `json:"skipped"`
	Rescued     int64 `json:"rescued"`
	Ignored     int64 `json:"ignored"`
}

// readReport reads the lines that report.py wrote. What comes before a broken one is kept.
func readReport(path string) (*report, error) {
	r := &report{}
	f, err := os.Open(path)
	if err != nil {
		return r, errors.New("it wrote no report")
	}
	defer f.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := r.take(lines.Bytes()); err != nil {
			return r, err
		}
	}
	if err := lines.Err(); err != nil || r.whole {
		return r, err
	}
	return r, errors.New("its report has no end")
}

func (r *report) take(line []byte) error {
	var record struct {
		Host, Task, Path, Msg string
		Stats                 *stats
		End                   bool
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	switch {
	case record.End:
		r.whole = true
	case record.Stats != nil:
		r.hosts = append(r.hosts, host{record.Host, *record.Stats})
	case len(r.failures) < 1000:
		r.failures = append(r.failures, failed{record.Host, record.Task, record.Path, record.Msg})
	}
	return nil
}

func (r *report) outputs() action.Outputs {
	var sum stats
	hosts := map[string]any{}
	for _, h := range r.hosts {
		s := h.stats
		sum.OK, sum.Changed, sum.Failures, sum.Unreachable = sum.OK+s.OK, sum.Changed+s.Changed, sum.Failures+s.Failures, sum.Unreachable+s.Unreachable
		if len(hosts) < maxHosts {
			hosts[h.name] = map[string]any{
				"ok": s.OK, "changed": s.Changed, "failed": s.Failures, "unreachable": s.Unreachable, "skipped": s.Skipped, "rescued": s.Rescued, "ignored": s.Ignored,
			}
		}
	}
	return action.Outputs{"ok": sum.OK, "changed": sum.Changed, "failed": sum.Failures, "unreachable": sum.Unreachable, "hosts": hosts}
}

// Exit codes of ansible-playbook that mean that it understood its options or files not (ansible/cli, ExitCode). 4 is that
// of unreachable hosts, too.
const (
	exitParser  = 4
	exitOptions = 5
)

// failure says on which host which task failed, or where none did what the program said last.
func (g *game) failure(told *report, code int, err error, stderr string) error {
	lost := map[string]bool{} // hosts whose failure nothing rescued
	for _, h := range told.hosts {
		lost[h.name] = h.stats.Failures > 0 || h.stats.Unreachable > 0
	}
	var reasons []string
	more := 0
	for _, f := range told.failures {
		switch {
		case len(told.hosts) > 0 && !lost[f.Host]:
		case len(reasons) == maxFailures:
			more++
		default:
			reasons = append(reasons, g.reason(f))
		}
	}
	if len(reasons) == 0 {
		said := lastBytes(g.masked(strings.TrimSpace(stderr)), maxReason)
		err = fmt.Errorf("ansible-playbook: %w: %s", err, said)
		if code == exitOptions || code == exitParser {
			return action.Permanent(err)
		}
		return err
	}
	if more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("ansible-playbook: %w: %s", err, strings.Join(reasons, "; "))
}

func (g *game) reason(f failed) string {
	text := fmt.Sprintf("host %s, task %q", f.Host, f.Task)
	if path, err := filepath.Rel(g.dir, f.Path); err == nil && filepath.IsLocal(path) {
		text += " (" + path + ")"
	}
	msg := g.masked(strings.Join(strings.Fields(f.Msg), " "))
	if len(msg) > maxReason {
		msg = strings.ToValidUTF8(msg[:maxReason], "") + "…"
	}
	return strings.TrimSuffix(text+": "+msg, ": ")
}

// masked is text without the secrets that the playbook was given, each line of them on its own.
func (g *game) masked(text string) string {
	for _, secret := range g.secrets {
		for line := range strings.Lines(secret) {
			if line = strings.TrimSpace(line); len(line) >= 4 {
				text = strings.ReplaceAll(text, line, "***")
			}
		}
	}
	return text
}

func lastBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-n:], "")
}
