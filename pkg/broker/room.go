package broker

import "sync/atomic"

// Room knows about how full a stream is that refuses what is new when it is full: as it was when it was read last, and
// what this replica has written since. Safe for concurrent use.
type Room struct {
	Max  int64 // bytes that the stream may have
	used atomic.Int64
}

// Read says how many bytes the stream has.
func (r *Room) Read(bytes uint64) { r.used.Store(int64(bytes)) }

// Wrote says that a message of so many bytes was added.
func (r *Room) Wrote(bytes int) { r.used.Add(int64(bytes)) }

// Tight reports whether no more than a sixteenth is free. That much is for what the engine must write so that work ends
// and room is made: new work must not take it.
func (r *Room) Tight() bool { return r.used.Load() > r.Max/16*15 }
