package eventlog

// shares divide Options.MaxBytes among what the log keeps. Each part is bounded by itself, by JetStream, so that their sum
// can't outgrow the whole however the work is made up.
type shares struct {
	segments  int64
	bodies    int64 // large bodies
	ids       int64
	revisions int64 // sets of rules; only what no event needs is purged for it
}

// minIDs holds the largest message of stored ids twice.
const minIDs = 2 * savedPerMessage * savedSize

func divide(total int64, maxIDs int) shares {
	s := shares{bodies: total / 4, revisions: total / 16, ids: min(int64(maxIDs)*idBytes, total/8)}
	s.ids = max(s.ids, minIDs)
	s.segments = total - s.bodies - s.revisions - s.ids
	return s
}

// maxIDs is how many of the wanted ids have room. A store that keeps fewer on its disk than are known in memory would know
// other duplicates after a restart than before.
func (s shares) maxIDs(wanted int) int { return int(min(int64(wanted), s.ids/idBytes)) }

// spare is how much of a share history may fill; the rest is for what comes until the next sweep.
func spare(share int64) uint64 { return uint64(share) / 10 * 8 }
