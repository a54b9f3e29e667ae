// Package runstore keeps what happens to events and runs: one journal for each partition, written only by the
// partition's owner, and the leases that say who that is.
package runstore
