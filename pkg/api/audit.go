package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/event"
)

// auditTime bounds the writing of an entry.
const auditTime = 5 * time.Second

// record is what a handler tells of a request for the audit log.
type record struct {
	target string
	detail map[string]string
	failed error // though the answer says nothing of it
}

type recordKey struct{}

// note says what a request is about, and more of it in pairs of a name and a value.
func note(r *http.Request, target string, detail ...string) {
	rec := recordOf(r)
	rec.target = target
	for i := 0; i+1 < len(detail); i += 2 {
		if rec.detail == nil {
			rec.detail = map[string]string{}
		}
		rec.detail[detail[i]] = detail[i+1]
	}
}

// noteFailure says that a request failed after the answer had begun.
func noteFailure(r *http.Request, err error) {
	recordOf(r).failed = err
}

// recordOf returns a request's record, which the guard made.
func recordOf(r *http.Request) *record {
	rec, _ := r.Context().Value(recordKey{}).(*record)
	return rec
}

// audited is the operation's name in the audit log; what only reads has none.
func (op operation) audited() string {
	if op.method == http.MethodGet {
		return ""
	}
	return op.id
}

// audit puts on record what came of a request. The request has had its effect by then, whether or not it can be recorded: what
// can't be is in the server's log.
func (a *api) audit(r *http.Request, action string, err error) {
	rec := recordOf(r)
	e := audit.Entry{At: time.Now(), Who: identityOf(r.Context()).Name, From: r.RemoteAddr, Action: action, Target: rec.target, Result: audit.OK, Detail: rec.detail}
	if err == nil {
		err = rec.failed
	}
	if err != nil {
		e.Result, e.Reason = audit.Failed, err.Error()
		if statusOf(err).Status < http.StatusInternalServerError {
			e.Result = audit.Refused
		}
	}
	log := a.Logger.With("action", e.Action, "target", e.Target, "by", e.Who, "from", e.From, "result", e.Result, "reason", e.Reason)
	log.Info("request to change something")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
	defer cancel()
	if err := a.Audit.Audit(ctx, e); err != nil {
		log.Error("it is missing in the audit log", "error", err)
	}
}

func (a *api) listAudit(w http.ResponseWriter, r *http.Request) error {
	limit, err := limitOf(r)
	if err != nil {
		return err
	}
	since, err := sinceOf(r)
	if err != nil {
		return err
	}
	q := AuditQuery{Since: since, Limit: limit, Cursor: r.URL.Query().Get("cursor")}
	entries, next, err := a.Audit.List(r.Context(), q)
	if errors.Is(err, event.ErrNotFound) {
		return badCursor("the audit log", q.Cursor)
	}
	if err != nil {
		return err
	}
	items := make([]AuditEntry, len(entries))
	for i, e := range entries {
		items[i] = AuditEntry(e)
	}
	return writeList(w, items, next)
}
