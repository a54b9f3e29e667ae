package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reason is a kind of failure.
type Reason string

// Reasons.
const (
	Unreachable     Reason = "Unreachable"     // the API server does not answer
	Unauthenticated Reason = "Unauthenticated" // it does not know who asks
	Forbidden       Reason = "Forbidden"       // RBAC does not allow it
	NotFound        Reason = "NotFound"        // the object is not there
	KindMissing     Reason = "KindMissing"     // the cluster has no such kind
	FieldConflict   Reason = "FieldConflict"   // another manager owns a field
	Changed         Reason = "Changed"         // the object was changed meanwhile
	Exists          Reason = "Exists"          // the object is there already
	Denied          Reason = "Denied"          // an admission policy or webhook does not allow it
	Malformed       Reason = "Malformed"       // the object is not what its kind asks for
	Blocked         Reason = "Blocked"         // a PodDisruptionBudget does not allow it now, or the server has too much to do
	Expired         Reason = "Expired"         // the version that was named is too old
	Other           Reason = "Other"
)

// Error is a failure in words.
type Error struct {
	Reason Reason
	Final  bool // the same request would fail again
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether err is a failure for the reason.
func Is(err error, reason Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// words says why what was tried failed, and what to do. It returns nil for nil, and an *Error as it is.
func (c *Client) words(err error, what string) error {
	var done *Error
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return err
	case errors.As(err, &status):
		return c.answered(status.Status(), what)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !isNet(err):
		return &Error{Other, false, fmt.Errorf("%s: %w", what, err)}
	case strings.Contains(err.Error(), "would exceed context deadline"): // client-go's limit of requests has no error value for it
		return &Error{Other, false, fmt.Errorf("%s: no time was left for the request: %w", what, context.DeadlineExceeded)}
	}
	return &Error{Unreachable, false, fmt.Errorf("%s: the API server at %s can't be reached: %w: check its address, and that the network lets the server through", what, c.host, unwrapURL(err))}
}

// Late reports whether a context has ended, or does so this moment: a request that fails then says nothing.
func Late(ctx context.Context) bool {
	deadline, bound := ctx.Deadline()
	return ctx.Err() != nil || bound && !time.Now().Before(deadline)
}

func isNet(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// unwrapURL leaves out the address of the request, which the text has.
func unwrapURL(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op
	}
	return err
}

func (c *Client) answered(s metav1.Status, what string) error {
	say := func(reason Reason, final bool, format string, args ...any) error {
		return &Error{reason, final, fmt.Errorf("%s: %s", what, fmt.Sprintf(format, args...))}
	}
	switch {
	case s.Code == http.StatusUnauthorized:
		return say(Unauthenticated, false, "the API server does not accept our credential (401): its token has expired, or was revoked: renew it in the kubeconfig, or restart the pod where its service account was made anew")
	case denied(s):
		return say(Denied, true, "the cluster's admission control denies it: %s", clean(s.Message))
	case strings.Contains(s.Message, "failed calling webhook"):
		return say(Other, false, "an admission webhook does not answer: %s", clean(s.Message))
	case s.Code == http.StatusForbidden:
		return say(Forbidden, true, "%s", c.forbidden(s))
	case s.Code == http.StatusNotFound && (s.Details == nil || s.Details.Name == ""):
		return say(KindMissing, true, "the cluster does not serve it: is its CustomResourceDefinition installed, or its API of another version?")
	case s.Code == http.StatusNotFound:
		return say(NotFound, true, "there is no %s %q", strings.TrimSuffix(s.Details.Kind, "s"), s.Details.Name)
	case s.Reason == metav1.StatusReasonAlreadyExists:
		return say(Exists, true, "it is there already")
	case len(conflicts(s)) > 0:
		return say(FieldConflict, true, "%s: leave the field to it, or take it over with force: true", strings.Join(conflicts(s), "; "))
	case s.Code == http.StatusConflict:
		return say(Changed, false, "it was changed, or made anew, meanwhile: %s", clean(s.Message))
	case s.Code == http.StatusGone, s.Reason == metav1.StatusReasonExpired:
		return say(Expired, true, "the API server does not know that version any more: %s", clean(s.Message))
	case s.Code == http.StatusTooManyRequests:
		return say(Blocked, false, "%s", blocked(s))
	case s.Code == http.StatusUnprocessableEntity || s.Code == http.StatusBadRequest:
		return say(Malformed, true, "%s", invalid(s))
	}
	return say(Other, s.Code < 500, "the API server answered %d: %s", s.Code, clean(s.Message))
}

// denied knows the texts of admission: webhooks, policies, pod security and quotas (kubernetes/kubernetes,
// staging/src/k8s.io/apiserver/pkg/admission).
func denied(s metav1.Status) bool {
	for _, text := range []string{"admission webhook", "ValidatingAdmissionPolicy", "violates PodSecurity", "exceeded quota", "is being terminated", "denied the request", "denied request"} {
		if strings.Contains(s.Message, text) && !strings.Contains(s.Message, "failed calling webhook") {
			return true
		}
	}
	return false
}

// refusal is what RBAC says: who cannot do what.
var refusal = regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]*)" in API group "([^"]*)"(?: in the namespace "([^"]*)")?`)

// impersonation is what it says of who may not act as another; in newer versions the verb says on what, too.
var impersonation = regexp.MustCompile(`User "([^"]*)" cannot impersonate`)

// forbidden says which right is missing for whom.
func (c *Client) forbidden(s metav1.Status) string {
	if m := impersonation.FindStringSubmatch(s.Message); m != nil && c.account != "" {
		namespace, name, _ := strings.Cut(c.account, "/")
		return fmt.Sprintf("%s may not act as the service account %s, which the grant of the rule's path names (403): bind it to a Role in namespace %s with "+
			`{apiGroups: [""], resources: [serviceaccounts], resourceNames: [%s], verbs: [impersonate]}`, m[1], c.account, namespace, name)
	}
	m := refusal.FindStringSubmatch(s.Message)
	if m == nil {
		return "the cluster forbids it (403): " + clean(s.Message)
	}
	who, verb, resource, group, namespace := m[1], m[2], m[3], m[4], m[5]
	where, role := "in namespace "+namespace, "a Role there"
	if namespace == "" {
		where, role = "in the whole cluster", "a ClusterRole"
	}
	text := fmt.Sprintf("%s may not %s %s %s (403): bind it to %s with {apiGroups: [%q], resources: [%s], verbs: [%s]}", who, verb, resource, where, role, group, resource, verb)
	if c.account == "" {
		return text + "; with the chart, list the action among the enabled ones, or add the rule to those of its role"
	}
	return text + "; it is the service account that the grant of the rule's path names"
}

// conflicts lists which managers own which fields.
func conflicts(s metav1.Status) []string {
	if s.Details == nil {
		return nil
	}
	var out []string
	for _, cause := range s.Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			out = append(out, fmt.Sprintf("%s: %s", strings.TrimPrefix(cause.Field, "."), clean(strings.Replace(cause.Message, "conflict with", "is owned by", 1))))
		}
	}
	const most = 5
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d further fields", len(out)-most))
	}
	return out
}

// blocked names the budget, where one is to blame.
func blocked(s metav1.Status) string {
	text := clean(s.Message)
	if s.Details == nil {
		return text
	}
	for _, cause := range s.Details.Causes {
		if cause.Type == "DisruptionBudget" {
			text += " (" + clean(cause.Message) + ")"
		}
	}
	return text
}

func invalid(s metav1.Status) string {
	text := "the API server does not take it: " + clean(s.Message)
	switch {
	case strings.Contains(s.Message, "immutable"):
		text += ": the field can't be changed: delete the object first, or give the new one another name"
	case strings.Contains(s.Message, "unknown field"), strings.Contains(s.Message, "not declared in schema"):
		text += ": check the spelling against the kind's schema"
	}
	return text
}

const maxText = 600 // bytes of what a server says

// clean is what a server said, on one line and bounded.
func clean(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
