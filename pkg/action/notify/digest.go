package notify

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	maxLines      = 50  // of a digest
	maxLine       = 400 // bytes of a digest's line
	digestTimeout = time.Minute
)

// gate keeps one target's rate, and what waits for its window. Sender.mu guards it.
type gate struct {
	sent    []time.Time // within the window, oldest first
	chain   []destination
	lines   []string
	dropped int
	last    message // whose run and rule the digest names
	timer   *time.Timer
}

// admit reports whether the message has to wait; otherwise it counts as sent now.
func (s *Sender) admit(chain []destination, m message) (waits bool) {
	d := chain[0]
	if d.Rate.Messages <= 0 || d.Rate.Per <= 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[d.Name]
	if g == nil {
		g = &gate{}
		s.gates[d.Name] = g
	}
	now := s.opts.Now()
	g.expire(now, d.Rate.Per)
	if s.closed || len(g.lines) == 0 && len(g.sent) < d.Rate.Messages {
		g.sent = append(g.sent, now)
		return false
	}
	g.add(chain, m)
	if g.timer == nil {
		g.timer = time.AfterFunc(g.wait(now), func() { s.due(d.Name) })
	}
	return true
}

func (g *gate) expire(now time.Time, per time.Duration) {
	i := 0
	for i < len(g.sent) && !now.Before(g.sent[i].Add(per)) {
		i++
	}
	g.sent = append(g.sent[:0], g.sent[i:]...)
}

// wait is how long until the window has room.
func (g *gate) wait(now time.Time) time.Duration {
	if len(g.sent) < g.chain[0].Rate.Messages {
		return 0
	}
	i := len(g.sent) - g.chain[0].Rate.Messages
	return max(0, g.sent[i].Add(g.chain[0].Rate.Per).Sub(now))
}

func (g *gate) add(chain []destination, m message) {
	g.chain, g.last = chain, m
	if len(g.lines) == maxLines {
		g.dropped++
		return
	}
	line := oneLine(m.text)
	if m.title != "" {
		line = m.title + ": " + line
	}
	g.lines = append(g.lines, cut(line, maxLine))
}

// take empties the gate and returns its digest.
func (g *gate) take(now time.Time) ([]destination, message) {
	m := message{title: fmt.Sprintf("%d more messages", len(g.lines)+g.dropped), run: g.last.run, rule: g.last.rule, event: g.last.event, severity: g.last.severity}
	if g.dropped > 0 {
		g.lines = append(g.lines, fmt.Sprintf("and %d that are not shown", g.dropped))
	}
	m.text = strings.Join(g.lines, "\n")
	g.lines, g.dropped, g.timer = nil, 0, nil
	g.sent = append(g.sent, now)
	return g.chain, m
}

// due sends a target's digest when its timer fires.
func (s *Sender) due(name string) {
	s.mu.Lock()
	g := s.gates[name]
	if s.closed || len(g.lines) == 0 { // Close flushes it
		s.mu.Unlock()
		return
	}
	chain, m := g.take(s.opts.Now())
	s.sending.Add(1)
	s.mu.Unlock()
	defer s.sending.Done()
	ctx, cancel := context.WithTimeout(context.Background(), digestTimeout)
	defer cancel()
	_ = s.sendDigest(ctx, chain, m) // it is logged
}

// sendDigest sends to the first of the chain that can be reached.
func (s *Sender) sendDigest(ctx context.Context, chain []destination, m message) error {
	var err error
	for i, d := range chain {
		if err = s.send(ctx, d, m.meantFor(chain[0].Name, i)); err == nil {
			return nil
		}
		err = fmt.Errorf("digest for target %s: %w", d.Name, err)
		s.opts.Logger.Warn("a digest can't be sent", "target", d.Name, "messages", m.title, "err", err)
	}
	return err
}

// Close sends the digests that wait, without heed of their rates, and waits for what is being sent, until the context
// ends. Messages sent later are not collected any more.
func (s *Sender) Close(ctx context.Context) error {
	type digest struct {
		chain []destination
		m     message
	}
	s.mu.Lock()
	s.closed = true
	var digests []digest
	for _, g := range s.gates {
		if g.timer != nil {
			g.timer.Stop()
		}
		if len(g.lines) > 0 {
			chain, m := g.take(s.opts.Now())
			digests = append(digests, digest{chain, m})
		}
	}
	s.mu.Unlock()
	var first error
	for _, d := range digests {
		if err := s.sendDigest(ctx, d.chain, d.m); err != nil && first == nil {
			first = err
		}
	}
	done := make(chan struct{})
	go func() { // it ends with the last send, all of which are bounded
		s.sending.Wait()
		close(done)
	}()
	select {
	case <-done:
		return first
	case <-ctx.Done():
		return fmt.Errorf("notify: messages are still being sent: %w", context.Cause(ctx))
	}
}
