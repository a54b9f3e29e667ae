package helm

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/action/actiontest"
	"github.com/riposte-dev/riposte/pkg/command"
)

func TestRollbackChoosesWhatWasGood(t *testing.T) {
	rev := func(n int64, status, description string) revision {
		return revision{Revision: n, Status: status, Description: description}
	}
	for name, c := range map[string]struct {
		list         []revision
		wanted, want int64
	}{
		"the one before":        {[]revision{rev(1, "superseded", "Install complete"), rev(2, "deployed", "Upgrade complete")}, 0, 1},
		"not one that failed":   {[]revision{rev(1, "superseded", ""), rev(2, "failed", ""), rev(3, "deployed", "")}, 0, 1},
		"not one that was left": {[]revision{rev(1, "superseded", ""), rev(2, "superseded", ""), rev(3, "superseded", ""), rev(4, "deployed", "Rollback to 2")}, 0, 1},
		"one that is named":     {[]revision{rev(1, "superseded", ""), rev(2, "deployed", "")}, 2, 2},
		"one that is not there": {[]revision{rev(1, "superseded", ""), rev(2, "deployed", "")}, 9, 0},
		"nothing to go back to": {[]revision{rev(1, "deployed", "")}, 0, 0},
		"there is no release":   {nil, 0, 0},
	} {
		if got, err := choose(c.list, c.wanted); got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}

func TestAValueCanNotChooseWhereAChartComesFrom(t *testing.T) {
	for _, c := range []struct {
		before, value string
		fine          bool
	}{
		{"", "/data/runs/1/src/chart", true}, {"", "chart", true}, {"oci://registry.example.com/charts/", "shop", true},
		{"", "oci://evil.example.com/x", false}, {"oci://", "evil.example.com/x", false}, {"oci://registry.example.com/", "../x", false}, {"", "--post-renderer=x", false}, {"a/", "../../x", false}, {"oci", "://x", false},
	} {
		if _, err := quoteChart(c.before, c.value); (err == nil) != c.fine {
			t.Errorf("%q%q: %v", c.before, c.value, err)
		}
	}
}

func TestFailuresInWords(t *testing.T) {
	runner, err := command.New(command.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	o := Options{Runner: runner, Binary: "/nonexistent/helm", User: func(string) (string, error) { return "", nil }}
	defs := action.NewRegistry(Definitions(o))
	actiontest.Run(t, defs["helm.rollback"], []actiontest.Case{
		{Name: "no program", Params: &RollbackParams{Release: "web"}, Want: actiontest.Permanent, ErrorHas: []string{"is helm installed"}},
		{Name: "no release", Params: &RollbackParams{Release: "--help"}, Want: actiontest.Permanent, ErrorHas: []string{"no name of a release"}},
	})
	actiontest.Run(t, defs["helm.upgrade"], []actiontest.Case{
		{Name: "http", Params: &UpgradeParams{Release: "web", Chart: "http://example.com/x.tgz"}, Want: actiontest.Permanent, ErrorHas: []string{"oci://"}},
	})
	o.User = func(string) (string, error) { return "", errors.New("there is no cluster") }
	actiontest.Run(t, Definitions(o)[0], []actiontest.Case{
		{Name: "no cluster", Params: &UpgradeParams{Release: "web", Chart: "x"}, Want: actiontest.Permanent, ErrorHas: []string{"there is no cluster"}},
	})
}
