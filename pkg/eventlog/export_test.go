package eventlog

import "time"

// SetBodyGrace is for tests of purging; call it before the first append.
func (l *Log) SetBodyGrace(d time.Duration) { l.keeper.grace = d }
