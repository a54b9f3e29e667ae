package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/run"
)

const (
	// jsonLines is the type of an answer of one JSON value a line.
	jsonLines = "application/x-ndjson"
	// logsTrailer says after a log whether that was all of it.
	logsTrailer = "Riposte-Logs"

	lookForText  = 200 * time.Millisecond
	looksPerRun  = 5 // for text, between two at the run itself
	settlingTime = 2 * time.Second
)

// errStopping ends a log that is followed.
var errStopping = errors.New("the server stops")

// logs answers what a run's steps had to say, and goes on until the run has ended where that is asked for.
func (a *api) logs(w http.ResponseWriter, r *http.Request) error {
	got, err := a.run(r)
	if err != nil {
		return err
	}
	follow, err := flagOf(r, "follow")
	if err != nil {
		return err
	}
	reader := a.Logs.Reader(r.Context(), got.ID, follow)
	defer reader.Close()
	// A reading of the request that takes longer than its bound ends its context: a follower has nothing more to send.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // not every writer can
	w.Header().Set("Content-Type", jsonLines)
	w.Header().Set("Trailer", logsTrailer)
	out := &logWriter{reader: reader, step: r.URL.Query().Get("step"), json: json.NewEncoder(w), flush: control.Flush}
	out.json.SetEscapeHTML(false)
	if follow {
		err = a.follow(r.Context(), got, out)
	} else {
		err = out.copy(r.Context())
	}
	if err != nil && !out.begun {
		return err
	}
	state := "complete"
	if err != nil {
		state = "cut off: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	w.Header().Set(logsTrailer, state)
	return nil // part of the answer may be sent: the trailer tells
}

// logWriter hands on what a reader finds.
type logWriter struct {
	reader LogReader
	step   string // empty for all
	json   *json.Encoder
	flush  func() error
	begun  bool // something was sent
}

// copy writes what there is now.
func (l *logWriter) copy(ctx context.Context) error {
	for {
		chunk, ok, err := l.reader.Next(ctx)
		if err != nil {
			return err
		}
		if !ok {
			_ = l.flush() // not every writer can
			return nil
		}
		if l.step != "" && l.step != chunk.Step {
			continue
		}
		l.begun = true
		if err := l.json.Encode(chunk); err != nil {
			return err
		}
	}
}

// follow writes what there is until the run has ended, and what was on its way then.
func (a *api) follow(ctx context.Context, of run.Run, out *logWriter) error {
	tick := time.NewTicker(lookForText)
	defer tick.Stop()
	for n := 1; ; n++ {
		// What a step says at its end can be stored a moment after the end itself.
		over := of.State.Ended() && time.Since(of.EndedAt) > settlingTime
		if err := out.copy(ctx); err != nil || over {
			return err
		}
		out.begun = true // the header is sent
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.Stopping:
			if err := out.copy(ctx); err != nil {
				return err
			}
			return errStopping
		case <-tick.C:
		}
		if n%looksPerRun != 0 || of.State.Ended() {
			continue
		}
		var err error
		if of, err = a.Runs.Get(ctx, of.ID); err != nil {
			return err
		}
	}
}
