package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

// Consent is a person's yes or no to what a run waits for.
type Consent struct {
	Who     string
	Groups  []string
	Via     string // api, link, comment
	Comment string
	Digest  string // of what was shown
}

// ConsentRequest is the body of an approval or a rejection; both fields can be missing.
type ConsentRequest struct {
	// Digest names what was shown to whoever decides; without one it is what the run waits for now.
	Digest  string `json:"digest,omitempty"`
	Comment string `json:"comment,omitempty"`
}

// ConsentAnswer says what came of an approval or a rejection.
type ConsentAnswer struct {
	ID string `json:"id"` // of the run
	// Heard is false where the run had not heard of it in time; it is on the log and will be.
	Heard    bool      `json:"heard"`
	State    run.State `json:"state"`
	Approval *Approval `json:"approval,omitempty"`
}

// Approval is what a run waits for people to agree to, or waited for.
type Approval struct {
	Step        string     `json:"step"`
	Uses        string     `json:"uses"`
	Digest      string     `json:"digest"`
	Shown       run.Values `json:"shown,omitempty"` // the step's parameters; not in lists
	RequestedAt time.Time  `json:"requestedAt"`
	ExpiresAt   time.Time  `json:"expiresAt"`
	Needed      int        `json:"needed"` // persons
	Granted     bool       `json:"granted"`
	By          []Approver `json:"by"`
}

// Approver is who agreed.
type Approver struct {
	Who     string    `json:"who"`
	Via     string    `json:"via,omitempty"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

func viewApproval(a *run.Approval) *Approval {
	if a == nil {
		return nil
	}
	v := &Approval{
		Step: a.Step, Uses: a.Uses, Digest: a.Digest, Shown: a.Shown, RequestedAt: a.RequestedAt, ExpiresAt: a.ExpiresAt,
		Needed: a.Needed, Granted: a.Granted, By: make([]Approver, len(a.By)),
	}
	for i, by := range a.By {
		v.By[i] = Approver(by)
	}
	return v
}

// maxComment bounds what somebody says to a decision, in bytes.
const maxComment = 4 << 10

func (a *api) approve(w http.ResponseWriter, r *http.Request) error {
	return a.consent(w, r, run.CommandApprove)
}

func (a *api) reject(w http.ResponseWriter, r *http.Request) error {
	return a.consent(w, r, run.CommandReject)
}

func (a *api) consent(w http.ResponseWriter, r *http.Request, order string) error {
	var body ConsentRequest
	if err := readBody(w, r, &body); err != nil {
		return err
	}
	if len(body.Comment) > maxComment {
		return &Error{http.StatusBadRequest, fmt.Sprintf("comment is longer than %d bytes", maxComment), ""}
	}
	got, err := a.run(r)
	if err != nil {
		return err
	}
	if !got.Asks() {
		return &Error{http.StatusConflict, fmt.Sprintf("run %s waits for nobody's consent: it is %s", got.ID, got.State), "riposte runs list --state waiting shows those that do"}
	}
	who := identityOf(r.Context())
	c := Consent{Who: who.Name, Groups: who.Groups, Via: "api", Comment: body.Comment, Digest: cmp.Or(body.Digest, got.Approval.Digest)}
	note(r, got.ID, "step", got.Approval.Step, "digest", c.Digest, "comment", c.Comment)
	heard, ok, err := a.Consent(r.Context(), order, got.ID, c)
	switch {
	case err != nil:
		return err
	case !ok:
		return writeJSON(w, http.StatusAccepted, ConsentAnswer{ID: got.ID, State: got.State, Approval: viewApproval(got.Approval)})
	case heard.Run == "":
		return refusedConsent(heard)
	}
	if got, err = a.run(r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, ConsentAnswer{ID: got.ID, Heard: true, State: got.State, Approval: viewApproval(got.Approval)})
}

// refusedConsent says why a consent did not count.
func refusedConsent(heard run.Entry) *Error {
	if heard.Reason == run.ReasonNotEntitled {
		return &Error{http.StatusForbidden, heard.Why, "approvals in the server's configuration says who may"}
	}
	return &Error{http.StatusConflict, heard.Why, "riposte runs show says what it waits for now"}
}

// readBody reads a request's JSON; no body at all is an empty object.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil && dec.More() {
		err = errors.New("there is something after it")
	}
	if err != nil {
		return &Error{http.StatusBadRequest, "the body is not what is taken here: " + err.Error(), "see /api/v1/openapi.json"}
	}
	return nil
}
