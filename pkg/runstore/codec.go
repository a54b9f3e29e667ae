package runstore

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/run"
)

// A message is a line that names the format, its version and the message's own id, then one entry to a line as JSON:
//
//	riposte-journal 1 K3PV…
//	{"at":"…","kind":"claimed","owner":"a"}
const (
	formatName    = "riposte-journal"
	formatVersion = 1

	// packBytes is where packing stops: a further entry goes into the next message. An entry that is longer alone gets
	// a message of its own, up to MaxEntryBytes.
	packBytes = 512 << 10
	// maxMessage keeps below the 1 MiB that a NATS server accepts by default, headers included.
	maxMessage = 1<<20 - 4<<10
	// MaxEntryBytes bounds one entry as JSON. Whoever writes entries bounds outputs, texts and records accordingly.
	MaxEntryBytes = maxMessage - 4<<10
)

// ErrTooLarge says that an entry is longer than MaxEntryBytes, or can't be written as JSON. Nothing was written.
var ErrTooLarge = errors.New("journal entry is too large")

// encode returns each entry as one line. Equal entries give equal lines.
func encode(entries []run.Entry) ([][]byte, error) {
	lines := make([][]byte, len(entries))
	for i := range entries {
		line, err := json.Marshal(&entries[i])
		if err != nil {
			return nil, fmt.Errorf("%s entry of run %q, step %q: %w", entries[i].Kind, entries[i].Run, entries[i].Step, err)
		}
		if len(line) > MaxEntryBytes {
			return nil, fmt.Errorf("%w: %s entry of run %q, step %q has %d bytes, at most %d fit: make the outputs smaller",
				ErrTooLarge, entries[i].Kind, entries[i].Run, entries[i].Step, len(line), MaxEntryBytes)
		}
		lines[i] = line
	}
	return lines, nil
}

// outgoing is a message that is to be written.
type outgoing struct {
	id   string
	data []byte
	n    int  // entries in it
	sent bool // once, with an outcome that is unknown
}

// pack puts lines into as few messages as fit, in order.
func pack(lines [][]byte) []*outgoing {
	var out []*outgoing
	for len(lines) > 0 {
		n, size := 1, len(lines[0])
		for n < len(lines) && size+len(lines[n]) < packBytes {
			size += len(lines[n]) + 1
			n++
		}
		out = append(out, assemble(lines[:n], size))
		lines = lines[n:]
	}
	return out
}

func assemble(lines [][]byte, size int) *outgoing {
	m := &outgoing{id: rand.Text(), n: len(lines)}
	m.data = make([]byte, 0, size+len(lines)+64)
	m.data = fmt.Appendf(m.data, "%s %d %s\n", formatName, formatVersion, m.id)
	for _, line := range lines {
		m.data = append(m.data, line...)
		m.data = append(m.data, '\n')
	}
	return m
}

// header reads a message's first line and returns the message's id and the lines after it. It refuses what another
// version of the format says.
func header(data []byte) (id string, rest []byte, err error) {
	first, rest, ok := bytes.Cut(data, []byte("\n"))
	parts := bytes.Split(first, []byte(" "))
	if !ok || len(first) > 256 || len(parts) < 2 || string(parts[0]) != formatName {
		return "", nil, errors.New("not a message of Riposte's run journal")
	}
	version, err := strconv.Atoi(string(parts[1]))
	switch {
	case err != nil || version < 1:
		return "", nil, fmt.Errorf("message of the run journal has the format %.20q, which is no version", parts[1])
	case version > formatVersion:
		return "", nil, fmt.Errorf("message of the run journal has format %d, and this version of Riposte reads formats up to %d: a newer version wrote it, run that one", version, formatVersion)
	case len(parts) != 3 || len(parts[2]) == 0:
		return "", nil, errors.New("message of the run journal has no id")
	}
	return string(parts[2]), rest, nil
}

// decode returns a message's entries.
func decode(data []byte) ([]run.Entry, error) { return decodeWith(data, decodeEntry) }

func decodeWith(data []byte, decode func(line []byte) (run.Entry, error)) ([]run.Entry, error) {
	_, rest, err := header(data)
	if err != nil {
		return nil, err
	}
	entries := make([]run.Entry, 0, bytes.Count(rest, []byte("\n")))
	for n := 1; len(rest) > 0; n++ {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("entry %d of the message is cut off", n)
		}
		e, err := decode(line)
		if err != nil {
			return nil, fmt.Errorf("entry %d of the message: %w", n, err)
		}
		entries, rest = append(entries, e), after
	}
	return entries, nil
}

func decodeEntry(line []byte) (e run.Entry, err error) {
	err = json.Unmarshal(line, &e)
	return e, err
}

// decodeBrief reads an entry as far as the history keeps it. Most decisions create no run, and of those it keeps the event
// only: a server that starts reads hundreds of thousands of them.
func decodeBrief(line []byte) (run.Entry, error) {
	if e, ok := briefStep(line); ok {
		return e, nil
	}
	decided := append(strconv.AppendQuote([]byte(`"kind":`), string(run.Decided)), ',')
	if !bytes.Contains(line, decided) || bytes.Contains(line, []byte(`"runs":[`)) {
		return decodeEntry(line)
	}
	var brief struct {
		Kind  run.EntryKind `json:"kind"`
		Event string        `json:"event"`
	}
	if err := json.Unmarshal(line, &brief); err != nil {
		return run.Entry{}, err
	}
	if brief.Kind != run.Decided { // the words stand somewhere inside
		return decodeEntry(line)
	}
	return run.Entry{Kind: brief.Kind, Event: brief.Event}, nil
}

// briefStep reads the beginning or the end of an attempt, of which the history keeps no more than what becomes of the run;
// ok is false for all else. Most entries of a busy server are of these kinds.
func briefStep(line []byte) (e run.Entry, ok bool) {
	kind, _ := event.Field(line, "kind")
	e.Kind = run.EntryKind(event.Text(kind))
	if e.Kind != run.Started && e.Kind != run.Finished || event.Validate(line) != nil {
		return run.Entry{}, false
	}
	ok = true
	for key, value := range event.Members(line) {
		switch string(key) {
		case `"at"`:
			var err error
			if e.At, err = time.Parse(time.RFC3339Nano, event.Text(value)); err != nil {
				return run.Entry{}, false
			}
		case `"run"`:
			e.Run = event.Text(value)
		case `"phase"`:
			e.Phase = run.Phase(event.Text(value))
		case `"state"`:
			e.State = run.State(event.Text(value))
		case `"reason"`:
			e.Reason = event.Text(value)
		case `"error"`:
			e.Error = event.Text(value)
		case `"changes"`:
			e.Changes = string(value) == "true"
		case `"record"`:
			return run.Entry{}, false
		}
	}
	return e, ok
}
