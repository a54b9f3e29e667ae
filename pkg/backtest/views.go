package backtest

import (
	"encoding/json"
	"reflect"
	"sync"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
)

// views makes events' views. Where those that the API printed are what the set's Source makes of the first event of a
// type, they are taken from then on: making them anew costs more than to decide the event.
type views struct {
	mu      sync.Mutex
	printed map[[2]string]bool // by source and type: whether those that were printed are right
}

func (v *views) fill(src source.Source, r *Recorded, e *event.Event) {
	kind := [2]string{r.Source, r.Type}
	v.mu.Lock()
	right, asked := v.printed[kind]
	v.mu.Unlock()
	if right {
		r.readViews(e)
		return
	}
	src.Normalise(e)
	if asked {
		return
	}
	var p event.Event
	r.readViews(&p)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, asked := v.printed[kind]; !asked {
		v.printed[kind] = reflect.DeepEqual([]any{e.Git, e.Alert, e.PullRequest}, []any{p.Git, p.Alert, p.PullRequest})
	}
}

// readViews decodes the views that the API printed; what can't be decoded is not there.
func (r *Recorded) readViews(e *event.Event) {
	if r.git != nil {
		e.Git = readGit(r.git)
	}
	if r.alert != nil && json.Unmarshal(r.alert, &e.Alert) != nil {
		e.Alert = nil
	}
	if r.pullRequest != nil && json.Unmarshal(r.pullRequest, &e.PullRequest) != nil {
		e.PullRequest = nil
	}
}

// readGit is json.Unmarshal for the view that most events have, in a third of the time.
func readGit(raw []byte) *event.Git {
	g := &event.Git{}
	for key, value := range event.Members(raw) {
		switch string(key) {
		case `"repo"`:
			g.Repo = event.Text(value)
		case `"owner"`:
			g.Owner = event.Text(value)
		case `"cloneURL"`:
			g.CloneURL = event.Text(value)
		case `"ref"`:
			g.Ref = event.Text(value)
		case `"branch"`:
			g.Branch = event.Text(value)
		case `"tag"`:
			g.Tag = event.Text(value)
		case `"commit"`:
			g.Commit = event.Text(value)
		case `"before"`:
			g.Before = event.Text(value)
		case `"pusher"`:
			g.Pusher = event.Text(value)
		case `"forced"`:
			g.Forced = value[0] == 't'
		case `"created"`:
			g.Created = value[0] == 't'
		case `"deleted"`:
			g.Deleted = value[0] == 't'
		case `"pathsComplete"`:
			g.PathsComplete = value[0] == 't'
		case `"paths"`:
			for p := range event.Elements(value) {
				g.Paths = append(g.Paths, event.Text(p))
			}
		}
	}
	return g
}
