package steplog_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/riposte-dev/riposte/pkg/broker"
	"github.com/riposte-dev/riposte/pkg/run"
	"github.com/riposte-dev/riposte/pkg/secret"
	"github.com/riposte-dev/riposte/pkg/steplog"
)

const runID = "5ENG7J6GWJ2C0VDEAHNV9B4Y0M-my.rule"

func openBroker(t *testing.T, dir string) *broker.Broker {
	t.Helper()
	b, err := broker.Open(t.Context(), broker.Options{Dir: dir, ReserveBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, b.Close) })
	return b
}

func closed(t *testing.T, end func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := end(ctx); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, b steplog.Broker, change func(*steplog.Options)) *steplog.Store {
	t.Helper()
	o := steplog.Options{Redactor: secret.NewRedactor(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	if change != nil {
		change(&o)
	}
	s, err := steplog.Open(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s.Close) })
	return s
}

// read returns all that is stored of a run, as "step#attempt text" for each chunk; what is left out stands as <n>.
func read(t *testing.T, s *steplog.Store) string {
	t.Helper()
	r := s.Reader(t.Context(), runID, false)
	defer r.Close()
	var b strings.Builder
	for {
		c, ok, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return b.String()
		}
		if c.Omitted > 0 {
			fmt.Fprintf(&b, "<%d>", c.Omitted)
		}
		b.WriteString(c.Text)
	}
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

func TestWhatAStepSaidIsReadAfterARestart(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir)
	s := open(t, b, nil)
	first := s.Step(runID, run.Main, "tf/plan", 1)
	write(t, first, "Error: lock\n")
	_ = first.Close()
	if got := read(t, s); got != "Error: lock\n" {
		t.Fatalf("at once: %q", got)
	}
	other := s.Step(runID+"-2", run.Main, "tf/plan", 1)
	write(t, other, "of another run\n")
	second := s.Step(runID, run.Finally, "restart[a b.c]", 2)
	write(t, second, "it is ")
	if got := read(t, s); got != "Error: lock\nit is " {
		t.Fatalf("while it runs: %q", got)
	}
	write(t, second, "done\n")
	closed(t, s.Close) // with a writer that was not closed
	closed(t, b.Close)

	s = open(t, openBroker(t, dir), nil)
	r := s.Reader(t.Context(), runID, false)
	var got []string
	for c, ok, err := r.Next(t.Context()); ok; c, ok, err = r.Next(t.Context()) {
		if err != nil || c.At.IsZero() {
			t.Fatal(c, err)
		}
		got = append(got, fmt.Sprintf("%s/%s#%d %s", c.Phase, c.Step, c.Attempt, c.Text))
	}
	if want := "[/tf/plan#1 Error: lock\n finally/restart[a b.c]#2 it is  finally/restart[a b.c]#2 done\n]"; fmt.Sprint(got) != want {
		t.Errorf("%q", got)
	}
}

func TestSecretsAreMaskedWhereverTheyAreCut(t *testing.T) {
	redactor := secret.NewRedactor()
	redactor.Add([]byte("hunter22hunter22"))
	s := open(t, openBroker(t, t.TempDir()), func(o *steplog.Options) { o.Redactor = redactor })
	w := s.Step(runID, run.Main, "say", 1)
	write(t, w, "token=hunter22")
	if got := read(t, s); got != "token=" {
		t.Fatalf("half a secret: %q", got)
	}
	write(t, w, "hunter22, in base64 aHVudGVyMjJodW50ZXIyMg==; and half: hunter22")
	_ = w.Close()
	if got := read(t, s); got != "token=***, in base64 ***; and half: hunter22" {
		t.Errorf("%q", got)
	}
}

// TestALongLogKeepsItsBeginningAndItsEnd writes secrets all over, so that they lie across every boundary there is.
func TestALongLogKeepsItsBeginningAndItsEnd(t *testing.T) {
	redactor := secret.NewRedactor()
	redactor.Add([]byte("hunter22hunter22"))
	s := open(t, openBroker(t, t.TempDir()), func(o *steplog.Options) { o.Redactor = redactor })
	w := s.Step(runID, run.Main, "long", 1)
	write(t, w, "first line\n")
	for range 20 {
		write(t, w, strings.Repeat("abc hunter22hunter22é ", 10_000)) // 220 KB without a line's end
	}
	write(t, w, "\nlast line")
	_ = w.Close()
	got := read(t, s)
	if !strings.HasPrefix(got, "first line\nabc ***é abc") || !strings.HasSuffix(got, "é \nlast line") {
		t.Fatalf("%.40q … %q", got, got[len(got)-40:])
	}
	if strings.Contains(got, "unter2") || strings.Contains(got, "hunt") || strings.Contains(got, "er22") || strings.ContainsRune(got, '\ufffd') {
		t.Error("a part of a secret or of a character is left")
	}
	if len(got) > steplog.HeadBytes+steplog.TailBytes+100 || len(got) < steplog.HeadBytes/2+steplog.TailBytes/4 {
		t.Errorf("%d bytes are kept", len(got))
	}
	if n := strings.Count(got, "<"); n < 1 || n > 3 { // between beginning and end, and where the store took some of the end meanwhile
		t.Errorf("%d gaps", n)
	}
}

// TestTheEndOfALongLogReplacesWhatWasStoredOfIt stores a log piece by piece, as over a long time.
func TestTheEndOfALongLogReplacesWhatWasStoredOfIt(t *testing.T) {
	b := openBroker(t, t.TempDir())
	s := open(t, b, nil)
	w := s.Step(runID, run.Main, "long", 1)
	line := strings.Repeat("x", 99) + "\n"
	total := 0
	for range 60 {
		write(t, w, strings.Repeat(line, 500))
		total += 500 * len(line)
		_ = read(t, s) // stores it
	}
	write(t, w, "the end\n")
	_ = w.Close()
	got := read(t, s)
	var omitted int
	before, after, _ := strings.Cut(got, "<")
	if _, err := fmt.Sscanf(after, "%d>", &omitted); err != nil {
		t.Fatal(err, len(got))
	}
	_, after, _ = strings.Cut(after, ">")
	if len(before)+omitted+len(after) != total+len("the end\n") || !strings.HasSuffix(after, "the end\n") || len(before) != steplog.HeadBytes {
		t.Errorf("%d + %d + %d bytes of %d", len(before), omitted, len(after), total)
	}
	if len(after) < steplog.TailBytes/2 || len(after) > steplog.TailBytes {
		t.Errorf("%d bytes of the end are kept", len(after))
	}
	info, err := b.JetStream().Stream(t.Context(), broker.StepLogStream)
	if err != nil {
		t.Fatal(err)
	}
	if size := info.CachedInfo().State.Bytes; size > steplog.HeadBytes+steplog.TailBytes+100<<10 {
		t.Errorf("it takes %d bytes of the store", size)
	}
}

func TestFollowersSeeLinesAsTheyCome(t *testing.T) {
	s := open(t, openBroker(t, t.TempDir()), nil)
	r := s.Reader(t.Context(), runID, true)
	defer r.Close()
	w := s.Step(runID, run.Main, "talk", 1)
	for n := range 5 {
		line := fmt.Sprintf("line %d\n", n)
		write(t, w, line)
		if got := next(t, r); got != line {
			t.Fatalf("%q", got)
		}
	}
}

func TestAnotherReplicaSeesWhatIsStored(t *testing.T) {
	b := openBroker(t, t.TempDir())
	here, there := open(t, b, nil), open(t, b, nil)
	r := there.Reader(t.Context(), runID, true)
	defer r.Close()
	w := here.Step(runID, run.Main, "talk", 1)
	for n := range 2 {
		line := fmt.Sprintf("line %d\n", n)
		write(t, w, line)
		if got := next(t, r); got != line { // nobody closes or reads here: it is stored by itself
			t.Fatalf("%q", got)
		}
	}
}

// next polls until there is a chunk.
func next(t *testing.T, r *steplog.Reader) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		c, ok, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return c.Text
		}
	}
	t.Fatal("nothing came")
	return ""
}

// TestManyStepsAtOnce has every step end, some without a word.
func TestManyStepsAtOnce(t *testing.T) {
	s := open(t, openBroker(t, t.TempDir()), nil)
	var group sync.WaitGroup
	for n := range 100 {
		group.Go(func() {
			w := s.Step(runID, run.Main, fmt.Sprint("s", n), 1)
			defer w.Close()
			if n%2 == 0 {
				_, _ = fmt.Fprintf(w, "hello from %d\n", n)
			}
		})
	}
	group.Wait()
	if got := read(t, s); strings.Count(got, "hello from") != 50 {
		t.Errorf("%q", got)
	}
}

// TestAStoreThatIsAwayHoldsNobodyUp closes the server below and goes on writing: memory is bounded, and nothing waits.
func TestAStoreThatIsAwayHoldsNobodyUp(t *testing.T) {
	b := openBroker(t, t.TempDir())
	s := open(t, b, func(o *steplog.Options) { o.BufferBytes = 1 << 20 })
	w := s.Step(runID, run.Main, "talk", 1)
	closed(t, b.Close)
	block := bytes.Repeat([]byte("y"), 64<<10)
	for range 1000 {
		if n, err := w.Write(block); n != len(block) || err != nil {
			t.Fatal(n, err)
		}
	}
	_ = w.Close()
	r := s.Reader(t.Context(), runID, false)
	if _, _, err := r.Next(t.Context()); err == nil {
		t.Error("a store that is away has logs")
	}
}

func TestWhatComesAfterTheEndIsLeftOut(t *testing.T) {
	s := open(t, openBroker(t, t.TempDir()), nil)
	w := s.Step(runID, run.Main, "fork", 1)
	write(t, w, "mine\n")
	_ = w.Close()
	_ = w.Close()
	write(t, w, "of a child that outlives it\n")
	if got := read(t, s); got != "mine\n" {
		t.Errorf("%q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*steplog.Options){
		"Redactor": func(o *steplog.Options) { o.Redactor = nil }, "MaxBytes": func(o *steplog.Options) { o.MaxBytes = 1 },
		"MaxAge": func(o *steplog.Options) { o.MaxAge = -1 }, "BufferBytes": func(o *steplog.Options) { o.BufferBytes = -1 },
		"Logger": func(o *steplog.Options) { o.Logger = nil }, "Registerer": func(o *steplog.Options) { o.Registerer = nil },
	} {
		o := steplog.Options{Redactor: secret.NewRedactor(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
		change(&o)
		if _, err := steplog.Open(t.Context(), nil, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkWrite is a child that says a lot.
func BenchmarkWrite(b *testing.B) {
	store, err := broker.Open(b.Context(), broker.Options{Dir: b.TempDir(), ReserveBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close(context.Background())
	s, err := steplog.Open(b.Context(), store, steplog.Options{Redactor: secret.NewRedactor(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	w := s.Step(runID, run.Main, "talk", 1)
	block := bytes.Repeat([]byte("some words to read\n"), 32<<10/19)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		_, _ = w.Write(block)
	}
}
