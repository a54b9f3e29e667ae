package broker

// Names of what the event log and the broker keep in JetStream. The run store's stand in its names.go.
const (
	EventStream   = "EVENTS"
	EventSubject  = "riposte.events"
	IDStream      = "IDS"
	IDSubject     = "riposte.ids"
	BodyBucket    = "BODIES"
	RuleBucket    = "REVISIONS"
	ProbeBucket   = "PROBE"
	objectStreams = "OBJ_"
)
