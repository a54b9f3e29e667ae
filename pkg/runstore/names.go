package runstore

import (
	"strconv"
	"strings"
)

// Names of the stream, the buckets and their keys.
const (
	streamName       = "RUNS"
	subjectPrefix    = "riposte.runs."
	checkpointBucket = "CHECKPOINTS"
	leaseBucket      = "LEASES"
)

func subject(partition int) string { return subjectPrefix + strconv.Itoa(partition) }

// partitionOf returns the partition that a message's subject names, or -1.
func partitionOf(subject string) int { return index(subject, subjectPrefix) }

const (
	partitionPrefix = "partition."
	replicaPrefix   = "replica."
)

func partitionKey(partition int) string { return partitionPrefix + strconv.Itoa(partition) }

// keyPartition returns the partition that a bucket's key names, or -1.
func keyPartition(key string) int { return index(key, partitionPrefix) }

func index(text, prefix string) int {
	rest, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 0 {
		return -1
	}
	return n
}
