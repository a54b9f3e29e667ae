package engine

import "sync"

// slots bounds the steps that run at once in this process. A partition that found none free is poked when one is.
type slots struct {
	mu      sync.Mutex
	free    int
	waiting map[*partition]struct{}
}

func newSlots(n int) *slots { return &slots{free: n, waiting: map[*partition]struct{}{}} }

// some reports whether a slot is free; where none is, the partition is poked when one is.
func (s *slots) some(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		s.waiting[p] = struct{}{}
	}
	return s.free > 0
}

func (s *slots) acquire(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		s.waiting[p] = struct{}{}
		return false
	}
	s.free--
	return true
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	for p := range s.waiting {
		p.poke()
	}
	clear(s.waiting)
}

func (s *slots) pokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.waiting {
		p.poke()
	}
}
