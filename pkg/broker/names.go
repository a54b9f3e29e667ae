package broker

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Every name of what is kept in JetStream stands here, so that what a store holds can be read in one place.
const (
	// The event log.
	EventStream  = "EVENTS"
	EventSubject = "riposte.events"
	IDStream     = "IDS"
	IDSubject    = "riposte.ids"
	BodyBucket   = "BODIES"    // objects: large bodies
	RuleBucket   = "REVISIONS" // objects: sets of rules by revision
	ActiveBucket = "ACTIVE"    // keys: ActiveRules
	ActiveRules  = "rules"     // the key that names the set that was activated last

	MarkBucket   = "MARKS" // keys: MarkSchedule, MarkCatchUp and PlaceWatch, each with a dot and the name of a source
	MarkSchedule = "schedule"
	MarkCatchUp  = "catchUp"
	PlaceWatch   = "watch"

	// The run store; the subject of a partition is RunSubject's.
	RunStream        = "RUNS"
	RunSubjects      = runPrefix + "*"
	CheckpointBucket = "CHECKPOINTS" // keys: PartitionKey
	LeaseBucket      = "LEASES"      // keys: PartitionKey and ReplicaKey
	WindowBucket     = "WINDOWS"     // objects: parts of the state of correlation, as WindowObject names them

	// What steps had to say; the subjects are StepLogSubject's.
	StepLogStream   = "STEPLOGS"
	StepLogSubjects = stepLogPrefix + ">"

	// What people ordered and were refused.
	AuditStream  = "AUDIT"
	AuditSubject = "riposte.audit"

	PauseBucket = "PAUSES" // keys: PauseKey
	KeyBucket   = "KEYS"   // keys: LinkKey
	LinkKey     = "links"  // what links for approvals are signed with

	FormatBucket = "FORMAT" // keys: FormatKey; in a cluster, where a directory has a file
	FormatKey    = "format"

	// ProbeBucket takes the writes that find out whether the store answers.
	ProbeBucket = "PROBE"
)

const (
	runPrefix       = "riposte.runs."
	stepLogPrefix   = "riposte.steplogs."
	partitionPrefix = "partition."
	replicaPrefix   = "replica."
	pauseAll        = "all"
	pausePrefix     = "rule."

	// What JetStream itself makes of a bucket's name (github.com/nats-io/nats-architecture-and-design, ADR-8 and ADR-20).
	keyStreams    = "KV_"
	objectStreams = "OBJ_"

	snapshotSubject = "$JS.API.STREAM.SNAPSHOT."
	restoreSubject  = "$JS.API.STREAM.RESTORE."
	// jszSubject asks every server for its JetStream settings; only the system account gets an answer.
	jszSubject = "$SYS.REQ.SERVER.PING.JSZ"
)

// RunSubject is the subject of a partition's journal.
func RunSubject(partition int) string { return runPrefix + strconv.Itoa(partition) }

// RunPartition is the partition that a subject names, or -1.
func RunPartition(subject string) int { return index(subject, runPrefix) }

// StepLogSubject is the subject of a part of what one attempt of a step had to say; writer tells the attempt from all others.
func StepLogSubject(runID, writer string, part int) string {
	return stepLogPrefix + base64.RawURLEncoding.EncodeToString([]byte(runID)) + "." + writer + "." + strconv.Itoa(part)
}

// StepLogsOf are the subjects of all that a run's steps had to say.
func StepLogsOf(runID string) string {
	return stepLogPrefix + base64.RawURLEncoding.EncodeToString([]byte(runID)) + ".>"
}

// PartitionKey is the key of a partition in a bucket.
func PartitionKey(partition int) string { return partitionPrefix + strconv.Itoa(partition) }

// KeyPartition is the partition that a bucket's key names, or -1.
func KeyPartition(key string) int { return index(key, partitionPrefix) }

// ReplicaKey is the key of a replica's sign of life.
func ReplicaKey(session string) string { return replicaPrefix + session }

// KeyReplica is the session that a key of a replica names.
func KeyReplica(key string) (session string, ok bool) { return strings.CutPrefix(key, replicaPrefix) }

// PauseKey is the key of a rule's pause, or of that of all rules where it is empty.
func PauseKey(rule string) string {
	if rule == "" {
		return pauseAll
	}
	return pausePrefix + rule
}

// KeyRule is the rule that a key of PauseBucket names.
func KeyRule(key string) (rule string, ok bool) {
	if key == pauseAll {
		return "", true
	}
	return strings.CutPrefix(key, pausePrefix)
}

// WindowObject names a part of a partition's windows; unique tells it from all others.
func WindowObject(partition int, unique string) string {
	return WindowObjects(partition) + unique
}

// WindowObjects is what the names of a partition's windows begin with.
func WindowObjects(partition int) string { return partitionPrefix + strconv.Itoa(partition) + "." }

// ObjectStream is the stream in which a bucket of objects is kept.
func ObjectStream(bucket string) string { return objectStreams + bucket }

// ObjectSubjects are the subjects of an object's content and of its description.
func ObjectSubjects(bucket, name, nuid string) (content, description string) {
	prefix := "$O." + bucket
	return prefix + ".C." + nuid, prefix + ".M." + base64.URLEncoding.EncodeToString([]byte(name))
}

func index(text, prefix string) int {
	rest, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 0 {
		return -1
	}
	return n
}
