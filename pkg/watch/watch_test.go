package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riposte-dev/riposte/pkg/event"
	"github.com/riposte-dev/riposte/pkg/source"
	"github.com/riposte-dev/riposte/pkg/source/kubernetes"
	"github.com/riposte-dev/riposte/pkg/source/sourcetest"
)

// world is a cluster that tells what becomes of its objects, and a store. It forgets changes when told to.
type world struct {
	t *testing.T

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any
	changes  []source.Change // their versions are 1, 2, …
	oldest   int             // changes up to it are forgotten
	changed  chan struct{}
	refusal  error  // of the cluster
	closed   string // namespace that may not be watched
	full     error  // of the log
	lists    int
	watching int

	sources map[string]Source
	owner   string
	places  map[string][]byte
	ids     map[string]bool
	events  []string
}

func test(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, objects: map[string]map[string]any{}, changed: make(chan struct{}), places: map[string][]byte{}, ids: map[string]bool{}, sources: map[string]Source{}, owner: "a"}
		f(w)
	})
}

func (w *world) source(name, spec string) {
	w.t.Helper()
	s := sourcetest.New(w.t, kubernetes.Type(), spec, sourcetest.Env(nil)).(source.Watched)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources[name] = Source{Type: "kubernetes", Source: s}
}

// put changes an object now; spec nil deletes it.
func (w *world) put(name string, spec any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	now := time.Now().UTC().Format(time.RFC3339)
	created, kind := now, "ADDED"
	if was := w.objects[name]; was != nil {
		created, kind = was["metadata"].(map[string]any)["creationTimestamp"].(string), "MODIFIED"
	}
	o := map[string]any{"spec": spec, "metadata": map[string]any{
		"name": name, "namespace": "shop", "uid": "uid-" + name, "resourceVersion": fmt.Sprint(w.version), "creationTimestamp": created,
		"managedFields": []any{map[string]any{"manager": "kubectl", "time": now}},
	}}
	w.objects[name] = o
	if spec == nil {
		kind = "DELETED"
		delete(w.objects, name)
	}
	w.changes = append(w.changes, source.Change{Type: kind, Object: o})
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) set(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
}

func (w *world) list(_ context.Context, _ Request, take func(map[string]any) error) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lists++
	for _, o := range w.objects {
		if err := take(o); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(w.version), w.refusal
}

func (w *world) watch(ctx context.Context, r Request, version string, take func(source.Change, string) error) error {
	from := 0
	if _, err := fmt.Sscan(version, &from); err != nil {
		return err
	}
	w.set(func() { w.watching++ })
	defer w.set(func() { w.watching-- })
	for ended := time.After(5 * time.Minute); ; {
		w.mu.Lock()
		refusal, expired, rest, more := w.refusal, from < w.oldest, slices.Clone(w.changes[from:]), w.changed
		w.mu.Unlock()
		switch {
		case refusal != nil:
			return refusal
		case w.closed != "" && r.Namespace == w.closed:
			return errors.New("403 Forbidden")
		case expired:
			return fmt.Errorf("410 Gone: %w", ErrExpired)
		}
		for _, c := range rest {
			from++
			if err := take(c, fmt.Sprint(from)); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *world) append(_ context.Context, records []event.Record) ([]event.Appended, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full != nil {
		return nil, w.full
	}
	for _, r := range records {
		if e := r.Event; !w.ids[e.ID] {
			w.ids[e.ID] = true
			w.events = append(w.events, e.Source+" "+e.Type+" "+e.Subject)
		}
	}
	return make([]event.Appended, len(records)), nil
}

func (w *world) start(name string) (d *Driver, stop func()) {
	d, err := New(Options{
		Sources: func() (map[string]Source, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			out := map[string]Source{}
			for name, s := range w.sources {
				out[name] = s
			}
			return out, true
		},
		List: w.list, Watch: w.watch, Append: w.append, Now: time.Now,
		Mine: func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.owner == name
		},
		Place: func(_ context.Context, key string) ([]byte, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.places[key], nil
		},
		SetPlace: func(_ context.Context, key string, place []byte) error {
			w.set(func() { w.places[key] = place })
			return nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	synctest.Wait()
	return d, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) want(events ...string) {
	w.t.Helper()
	time.Sleep(3 * time.Second)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got, want := strings.Join(w.events, ", "), strings.Join(events, ", "); got != want {
		w.t.Errorf("events: %s; want %s", got, want)
	}
	w.events = nil
}

const pods = `{kind: Pod, namespaces: [shop]}`

func TestChangesAreEventsFromTheFirstLookOn(t *testing.T) {
	test(t, func(w *world) {
		w.put("there", 1)
		w.source("pods", pods)
		_, stop := w.start("a")
		w.want()
		w.put("new", 1)
		w.put("there", 2)
		w.put("new", nil)
		w.want("pods pod.added shop/new", "pods pod.modified shop/there", "pods pod.deleted shop/new")
		stop()
		w.put("there", 3) // while nobody watches
		_, stop = w.start("a")
		w.want("pods pod.modified shop/there")
		time.Sleep(20 * time.Minute) // the cluster ends watches
		w.put("there", 4)
		w.want("pods pod.modified shop/there")
		if w.lists != 1 {
			t.Errorf("the objects were listed %d times", w.lists)
		}
		stop()
	})
}

func TestOneReplicaWatchesAndAnotherGoesOn(t *testing.T) {
	test(t, func(w *world) {
		w.source("pods", pods)
		_, stopA := w.start("a")
		_, stopB := w.start("b")
		w.put("x", 1)
		w.want("pods pod.added shop/x")
		if w.watching != 1 {
			t.Errorf("%d watch", w.watching)
		}
		w.set(func() { w.owner = "" }) // the owner is lost, and after a while there is another
		time.Sleep(10 * time.Second)
		w.put("x", 2)
		w.set(func() { w.owner = "b" })
		w.want("pods pod.modified shop/x")
		stopA()
		stopB()
	})
}

func TestWhatTheClusterHasForgottenIsListedAnew(t *testing.T) {
	test(t, func(w *world) {
		w.put("old", 1)
		time.Sleep(time.Hour)
		w.source("pods", pods)
		_, stop := w.start("a")
		w.put("changed", 1)
		w.put("gone", 1)
		w.want("pods pod.added shop/changed", "pods pod.added shop/gone")
		stop()
		time.Sleep(time.Hour)
		w.put("changed", 2)
		w.put("gone", nil)
		w.put("new", 1)
		w.set(func() { w.oldest = w.version })
		_, stop = w.start("a")
		time.Sleep(3 * time.Second)
		w.set(func() { slices.Sort(w.events) })
		w.want("pods pod.added shop/new", "pods pod.modified shop/changed")
		w.put("old", 2)
		w.want("pods pod.modified shop/old")
		stop()
	})
}

func TestWhatTheLogRefusesIsTriedAgain(t *testing.T) {
	test(t, func(w *world) {
		w.source("pods", pods)
		d, stop := w.start("a")
		w.set(func() { w.full = event.ErrLogFull })
		w.put("x", 1)
		w.put("y", 1)
		time.Sleep(10 * time.Minute)
		if err := d.Problem("pods"); !errors.Is(err, event.ErrLogFull) {
			t.Errorf("the problem is %v", err)
		}
		w.set(func() { w.full = nil })
		time.Sleep(maxPause)
		w.want("pods pod.added shop/x", "pods pod.added shop/y")
		if err := d.Problem("pods"); err != nil {
			t.Errorf("the problem is %v still", err)
		}
		stop()
	})
}

func TestARefusalOfTheClusterIsAProblemOfItsSourceAlone(t *testing.T) {
	test(t, func(w *world) {
		w.set(func() { w.refusal = errors.New("403 Forbidden") })
		w.source("pods", pods)
		d, stop := w.start("a")
		time.Sleep(time.Minute)
		if err := d.Problem("pods"); err == nil || d.Problem("others") != nil {
			t.Errorf("the problem is %v", err)
		}
		w.set(func() { w.refusal, w.sources = nil, map[string]Source{} })
		w.want()
		if err := d.Problem("pods"); err != nil {
			t.Errorf("a source that is gone has the problem %v", err)
		}
		stop()
	})
}

func TestWhatOneNamespaceTellsHidesNoProblemOfAnother(t *testing.T) {
	test(t, func(w *world) {
		w.closed = "bank"
		w.source("pods", `{kind: Pod, namespaces: [bank, shop]}`)
		d, stop := w.start("a")
		w.want()
		w.put("x", 1)
		w.want("pods pod.added shop/x")
		if err := d.Problem("pods"); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("the problem is %v", err)
		}
		stop()
	})
}

func TestAReloadLeavesWatchesAloneThatTellTheSame(t *testing.T) {
	test(t, func(w *world) {
		w.source("pods", pods)
		_, stop := w.start("a")
		w.want()
		w.source("pods", pods)
		w.put("x", 1)
		w.want("pods pod.added shop/x")
		if w.lists != 1 {
			t.Errorf("the objects were listed %d times", w.lists)
		}
		w.source("pods", `{kind: Pod, namespaces: [shop], on: [deleted]}`) // the same objects, so it goes on from there
		time.Sleep(2 * look)                                               // the driver looks at the end of the first
		w.put("x", 2)
		w.put("x", nil)
		w.want("pods pod.deleted shop/x")
		w.source("pods", `{kind: Pod, namespaces: [shop], labels: app=shop}`)
		w.want()
		if w.lists != 2 {
			t.Errorf("the objects of another selection were listed %d times", w.lists-1)
		}
		stop()
	})
}

func TestOptionsAreNeeded(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a driver without anything is made")
	}
}
