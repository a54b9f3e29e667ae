package cli

import "testing"

func TestGarbageGetsTheRoomOfASecondWhereMuchLives(t *testing.T) {
	for _, c := range []struct {
		what            string
		live, allocated uint64
		want            int
	}{
		{"little lives", 10 << 20, 500 << 20, 300},
		{"little lives, and nothing is done", 10 << 20, 0, 300},
		{"much lives, and nothing is done", 160 << 20, 0, 10},
		{"much lives, and as much is allocated", 160 << 20, 160 << 20, 100},
		{"never more than where little lives", 100 << 20, 4 << 30, 300},
	} {
		if got := percentFor(c.live, c.allocated); got != c.want {
			t.Errorf("%s: %d %%, want %d", c.what, got, c.want)
		}
	}
}
