package event

import "strings"

// markerOpening is what stands in front of a comment, issue or pull request that a run wrote (pkg/forge writes it): behind
// it come a key and, as RUN.STEP, who wrote it, in which all but letters, digits and dots is an underscore.
const markerOpening = "<!-- riposte:"

// MarkerRun returns the id of the run that wrote a comment, as the comment's first line says, or "". As with CommitRun,
// anybody can write such a line, so it may only be taken to do less.
func MarkerRun(body string) string {
	line, _, _ := strings.Cut(body, "\n")
	inner, ok := strings.CutPrefix(strings.TrimSpace(line), markerOpening)
	if !ok {
		return ""
	}
	inner, ok = strings.CutSuffix(inner, " -->")
	_, by, there := strings.Cut(inner, " ")
	run, _, whole := strings.Cut(by, ".")
	run = strings.ReplaceAll(run, "_", "-") // no id of a run has an underscore
	if !ok || !there || !whole || !isRunID(run) {
		return ""
	}
	return run
}

// How runs mark the objects of a Kubernetes cluster that they change.
const (
	// RunAnnotation names the run that changed an object last.
	RunAnnotation = "riposte.dev/run"
	// FieldManager is the manager of fields (kubernetes.io/docs/reference/using-api/server-side-apply) by which runs change them.
	FieldManager = "riposte"
)

// AnnotatedRun returns the id of the run that the value of a RunAnnotation names, or "". As with MarkerRun, anybody can write
// one.
func AnnotatedRun(value string) string {
	if !isRunID(value) {
		return ""
	}
	return value
}

func isRunID(id string) bool {
	return len(id) > IDLen && len(id) <= maxTrailer && !strings.ContainsFunc(id, notInRunID)
}

func notInRunID(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// CausingRun returns the run that caused the event, or "": CausedBy can also name the event that this one repeats.
func (e *Event) CausingRun() string {
	if len(e.CausedBy) <= IDLen {
		return ""
	}
	return e.CausedBy
}
