package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/audit"
	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// LinkPath is the path of the hooks listener below which links are opened.
const LinkPath = "/approve/"

// LinkOptions configure the page of links.
type LinkOptions struct {
	// Open verifies a token and returns what it stands for.
	Open func(token string) (consent.Link, error)
	// Groups returns the groups of a person; ok is false for somebody who has no links any more.
	Groups func(name string) (groups []string, ok bool)
	Run    func(ctx context.Context, id string) (run.Run, error)
	Event  func(ctx context.Context, id string) (*event.Event, error)
	// Consent is as that of Options.
	Consent func(ctx context.Context, order, runID string, c Consent) (heard run.Entry, ok bool, err error)
	Audit   audit.Writer
	Now     func() time.Time
	Logger  *slog.Logger
}

// Links returns the handler of signed links. A GET shows what waits, and changes nothing, whoever or whatever opens it; a
// POST decides on exactly what the page showed. It is public: whoever has a link may use it, and learns nothing without one.
// The page has no script and loads nothing, and what events and rules put into it is text.
func Links(o LinkOptions) http.Handler {
	sum := sha256.Sum256([]byte(linkStyle))
	return &links{o, "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		template.Must(template.New("link").Parse(linkPage))}
}

type links struct {
	LinkOptions
	policy string
	page   *template.Template
}

// linkView is what the page says.
type linkView struct {
	Status          int
	Title, Message  string
	Who             string
	Run             *run.Run
	Event           *event.Event
	Ask             bool
	Shown, Summary  []linkValue
	Expires, Agreed string
}

type linkValue struct{ Name, Text string }

func (l *links) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", l.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // the address is the secret
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")
	var v linkView
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		_, v = l.look(r)
	case http.MethodPost:
		v = l.decide(w, r)
	default:
		h.Set("Allow", "GET, HEAD, POST")
		v = linkView{Status: http.StatusMethodNotAllowed, Title: "Not like this", Message: r.Method + " is not answered here."}
	}
	var b strings.Builder
	if err := l.page.Execute(&b, v); err != nil {
		l.Logger.Error("the page of a link could not be made", "error", err)
		v.Status = http.StatusInternalServerError
		b.Reset()
	}
	w.WriteHeader(v.Status)
	_, _ = w.Write([]byte(b.String())) // the client went away: nobody to tell
}

// look finds out what a link is for, and whether there is something to decide.
func (l *links) look(r *http.Request) (consent.Link, linkView) {
	link, err := l.Open(strings.TrimPrefix(r.URL.Path, LinkPath))
	if err != nil {
		return link, linkView{Status: http.StatusNotFound, Title: "No such link", Message: capital(consent.ErrLink.Error()) + "."}
	}
	v := linkView{Status: http.StatusGone, Title: "Nothing to decide", Who: link.Who}
	if _, ok := l.Groups(link.Who); !ok {
		v.Status, v.Message = http.StatusForbidden, "The server's configuration gives "+link.Who+" no links any more."
		return link, v
	}
	got, err := l.Run(r.Context(), link.Run)
	if err != nil {
		v.Status, v.Message = statusOf(err).Status, "The run can't be read: its history is purged, or the store does not answer now."
		return link, v
	}
	v.Run = &got
	if v.Event, err = l.Event(r.Context(), got.Event); err != nil {
		v.Event = nil // the page does without
	}
	l.say(&v, link)
	return link, v
}

// say says what waits, or why nothing does.
func (l *links) say(v *linkView, link consent.Link) {
	r, a := v.Run, v.Run.Approval
	switch {
	case r.Attempt != link.Attempt:
		v.Message = "This link was for an earlier attempt at the run."
	case a == nil && r.State.Ended():
		v.Message = fmt.Sprintf("The run has ended (%s) and asked nobody.", r.State)
	case a == nil:
		v.Status, v.Title, v.Message = http.StatusOK, "Nothing waits yet", "The run does not wait for consent now. Open this link again in a moment."
	case agreed(a, link.Who):
		v.Message = fmt.Sprintf("This link was used: %s has consented already. The run is %s.", link.Who, r.State)
	case !r.Asks():
		v.Message = fmt.Sprintf("This was decided meanwhile: the run is %s. %s", r.State, r.Message)
	case link.Digest != "" && link.Digest != a.Digest:
		v.Message = "This link was for something else than what the run waits for now."
	case !l.Now().Before(a.ExpiresAt):
		v.Message = "This link has expired: the time to consent was over at " + a.ExpiresAt.UTC().Format(time.RFC1123) + "."
	default:
		v.Status, v.Title, v.Ask = http.StatusOK, "Do you agree?", true
		v.Expires = a.ExpiresAt.UTC().Format(time.RFC1123)
		v.Agreed = fmt.Sprintf("%d of %d", len(a.By), a.Needed)
		v.Shown, v.Summary = shownValues(a.Shown), summaries(r)
	}
}

func agreed(a *run.Approval, who string) bool {
	return slices.ContainsFunc(a.By, func(c run.Consent) bool { return c.Who == who })
}

func shownValues(values run.Values) []linkValue {
	out := make([]linkValue, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text, plain := values[name].(string)
		if !plain {
			b, _ := json.MarshalIndent(values[name], "", "  ") // it was JSON
			text = string(b)
		}
		out = append(out, linkValue{name, text})
	}
	return out
}

// summaries are what the steps before found, such as a plan's summary.
func summaries(r *run.Run) []linkValue {
	var out []linkValue
	for i := range r.Steps {
		s := &r.Steps[i]
		if text, ok := s.Outputs["summary"].(string); ok && s.Phase == run.Main && s.State == run.StepSucceeded {
			out = append(out, linkValue{s.ID + " (" + s.Uses + ")", text})
		}
	}
	return out
}

// decide gives a person's word to the run, if it still waits for what the page showed.
func (l *links) decide(w http.ResponseWriter, r *http.Request) linkView {
	form := linkView{Status: http.StatusBadRequest, Title: "Not like this", Message: "Open the link, and use the buttons of its page."}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return form
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4*maxComment)
	orders := map[string]string{"approve": run.CommandApprove, "reject": run.CommandReject}
	if r.ParseForm() != nil || orders[r.PostForm.Get("decision")] == "" || len(r.PostForm.Get("comment")) > maxComment {
		return form
	}
	link, v := l.look(r)
	if !v.Ask {
		return v
	}
	order := orders[r.PostForm.Get("decision")]
	groups, _ := l.Groups(link.Who)
	c := Consent{Who: link.Who, Groups: groups, Via: "link", Comment: r.PostForm.Get("comment"), Digest: r.PostForm.Get("digest")}
	heard, ok, err := l.Consent(r.Context(), order, link.Run, c)
	v = linkView{Who: link.Who, Run: v.Run, Event: v.Event}
	var refused error
	switch {
	case err != nil:
		l.Logger.Error("a decision by link could not be written", "run", link.Run, "by", link.Who, "error", err)
		v.Status, v.Title, v.Message = statusOf(err).Status, "Not decided", "The store does not answer now. Try again in a moment."
		refused = err
	case !ok:
		v.Status, v.Title, v.Message = http.StatusAccepted, "Noted", "The run has not heard of it yet, and will."
	case heard.Run == "":
		no := refusedConsent(heard)
		v.Status, v.Title, v.Message, refused = no.Status, "It does not count", capital(no.Msg)+".", no
	case order == run.CommandReject:
		v.Status, v.Title, v.Message = http.StatusOK, "Rejected", "The run ends without doing it."
	default:
		v.Status, v.Title, v.Message = http.StatusOK, "Approved", "Your consent is on record."
	}
	l.record(r, order, link, c, refused)
	return v
}

// record puts a decision on record.
func (l *links) record(r *http.Request, order string, link consent.Link, c Consent, refused error) {
	e := audit.Entry{At: l.Now(), Who: link.Who, From: r.RemoteAddr, Action: order + "Run", Target: link.Run, Result: audit.OK,
		Detail: map[string]string{"via": c.Via, "digest": c.Digest, "comment": c.Comment}}
	if refused != nil {
		e.Result, e.Reason = audit.Refused, refused.Error()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), auditTime)
	defer cancel()
	log := l.Logger.With("run", link.Run, "order", order, "by", link.Who, "result", e.Result, "reason", e.Reason)
	log.Info("decision by link")
	if err := l.Audit.Audit(ctx, e); err != nil {
		log.Error("it is missing in the audit log", "error", err)
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

const linkStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
h1{font-size:1.4rem}dt{color:#555}dd{margin:0 0 .5rem}pre{background:#f3f3f3;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
textarea{width:100%;box-sizing:border-box;font:inherit}button{font:inherit;padding:.4rem 1.2rem;margin:.6rem .6rem 0 0}`

const linkPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Riposte: {{.Title}}</title>
<style>` + linkStyle + `</style></head><body>
<h1>{{.Title}}</h1>
{{with .Message}}<p>{{.}}</p>{{end}}
{{with .Run}}<dl>
<dt>Rule</dt><dd>{{.Rule}}</dd>
<dt>Run</dt><dd>{{.ID}}, attempt {{.Attempt}}</dd>
<dt>Event</dt><dd>{{with $.Event}}{{.Source}} {{.Type}} {{.Subject}}<br>{{end}}{{.Event}}</dd>
{{if $.Ask}}<dt>Step</dt><dd>{{.Approval.Step}} ({{.Approval.Uses}})</dd>
{{range $.Shown}}<dt>{{.Name}}</dt><dd><pre>{{.Text}}</pre></dd>
{{end}}{{range $.Summary}}<dt>Found by {{.Name}}</dt><dd><pre>{{.Text}}</pre></dd>
{{end}}<dt>Consents</dt><dd>{{$.Agreed}}{{range .Approval.By}}<br>{{.Who}} {{.Comment}}{{end}}</dd>
<dt>Until</dt><dd>{{$.Expires}}</dd>{{end}}
</dl>{{end}}
{{if .Ask}}<form method="post"><input type="hidden" name="digest" value="{{.Run.Approval.Digest}}">
<label>Why (on record)<textarea name="comment" rows="2" maxlength="1000"></textarea></label>
<button name="decision" value="approve">Approve as {{.Who}}</button><button name="decision" value="reject">Reject</button></form>{{end}}
</body></html>
`
