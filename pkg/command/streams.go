package command

import (
	"io"
	"sync"
)

// Together returns writers for the two streams of a child that share one log: where one begins in the middle of a line of the
// other, that line is ended first. Which of two streams spoke first nobody can tell; that their lines stay apart, we can.
func Together(log io.Writer) (stdout, stderr io.Writer) {
	s := &shared{to: log}
	return &stream{s}, &stream{s}
}

type shared struct {
	mu   sync.Mutex
	to   io.Writer
	last *stream // the one that left a line unfinished; nil where none is
}

type stream struct{ *shared }

func (s *stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && s.last != s {
		if _, err := io.WriteString(s.to, "\n"); err != nil {
			return 0, err
		}
	}
	s.last = nil
	if p[len(p)-1] != '\n' {
		s.last = s
	}
	return s.to.Write(p)
}
