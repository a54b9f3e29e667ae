package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/riposte-dev/riposte/pkg/event"
)

// lockDir makes the directory this process's own, until the file is closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable(dir, err)
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(dir, err)
	}
	if err := flock(f); err != nil {
		holder, _ := os.ReadFile(name)
		return nil, errors.Join(fmt.Errorf("data directory %s is in use by process %s: stop that server, or name another directory with --data", dir, strings.TrimSpace(string(holder))), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(unusable(dir, err), f.Close())
	}
	if _, err := f.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0); err != nil {
		return nil, errors.Join(unusable(dir, err), f.Close())
	}
	return f, nil
}

// flock tries for two seconds: a child that a server which was killed had just forked holds the lock until it is what it is to be.
func flock(f *os.File) (err error) {
	for range 20 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// unusable says that a data directory can't be written, and what to do about it.
func unusable(dir string, err error) error {
	return fmt.Errorf("data directory %s can't be written: %w: make it writable for this user, or name another directory with --data", dir, err)
}

// space knows whether the disk has room to spare. It asks the system at most every askEvery.
type space struct {
	path    string
	reserve int64
	ask     func(string) (free, total uint64, err error)

	mu    sync.Mutex
	asked time.Time
	err   error
}

const askEvery = 250 * time.Millisecond

func (s *space) check(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.asked); d >= 0 && d < askEvery {
		return s.err
	}
	s.asked, s.err = now, nil
	free, total, err := s.ask(s.path)
	if err != nil {
		s.err = fmt.Errorf("%w: free space is unknown: %w", event.ErrLogUnavailable, err)
		return s.err
	}
	reserve := uint64(s.reserve)
	if reserve == 0 {
		reserve = max(1<<30, total/20)
	}
	if free < reserve {
		s.err = fmt.Errorf("%w: the disk of %s has %d MiB free, and %d MiB are kept in reserve: make room, or lower eventLog.reserveBytes", event.ErrLogFull, s.path, free>>20, reserve>>20)
	}
	return s.err
}

// has reports whether so much is free.
func (s *space) has(bytes uint64) bool {
	free, _, err := s.ask(s.path)
	return err == nil && free >= bytes
}

func freeSpace(path string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// redactURL removes passwords from a list of addresses.
func redactURL(urls string) string {
	parts := strings.Split(urls, ",")
	for i, p := range parts {
		if u, err := url.Parse(strings.TrimSpace(p)); err == nil {
			parts[i] = u.Redacted()
		} else {
			parts[i] = "(address that can't be parsed)"
		}
	}
	return strings.Join(parts, ",")
}

// serverLog passes on what the embedded server has to say. What it calls an error may be the end of a stream.
type serverLog struct {
	log     *slog.Logger
	suspect func()
}

func (l serverLog) Noticef(format string, v ...any) {
	l.log.Debug("store: " + fmt.Sprintf(format, v...))
}
func (l serverLog) Warnf(format string, v ...any) { l.log.Warn("store: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Fatalf(format string, v ...any) {
	l.log.Error("store: " + fmt.Sprintf(format, v...))
}
func (l serverLog) Errorf(format string, v ...any) {
	l.log.Error("store: " + fmt.Sprintf(format, v...))
	l.suspect()
}
func (l serverLog) Debugf(format string, v ...any) {
	l.log.Debug("store: " + fmt.Sprintf(format, v...))
}
func (l serverLog) Tracef(format string, v ...any) {
	l.log.Debug("store: " + fmt.Sprintf(format, v...))
}
