package app

import (
	"context"
	"errors"
	"testing"
)

func TestAPartThatEndsByItselfEndsTheServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		ends error
		want string
	}{
		{"without a word", nil, "part ended though nobody told it to"},
		{"for a reason", errors.New("broken"), "part: broken"},
		{"for a foreign context", context.Canceled, "part: context canceled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parts, working := newGroup(t.Context())
			parts.start("other", func() error { <-working.Done(); return working.Err() })
			parts.start("part", func() error { return tt.ends })
			<-working.Done()
			if err := parts.wait(); err == nil || err.Error() != tt.want {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	parts, working := newGroup(ctx)
	parts.start("part", func() error { <-working.Done(); return working.Err() })
	parts.start("other", func() error { <-working.Done(); return nil })
	stop()
	if err := parts.wait(); err != nil {
		t.Errorf("parts that were told to end: %v", err)
	}
}
