package runstore

import (
	"context"

	"github.com/riposte-dev/riposte/pkg/run"
)

// maxOrders is how many of the last orders' outcomes are kept for those who gave them.
const maxOrders = 1000

// orders are the outcomes of the last orders to runs. History's mutex guards them.
type orders struct {
	heard   map[string]run.Entry // by the order's id
	oldest  []string
	changed chan struct{} // closed and replaced when one is heard; nil while nobody waits
}

func (o *orders) note(e run.Entry) {
	if o.heard == nil {
		o.heard = map[string]run.Entry{}
	}
	e.Record = nil
	if _, again := o.heard[e.Event]; !again {
		o.oldest = append(o.oldest, e.Event)
	}
	o.heard[e.Event] = e
	if len(o.oldest) > maxOrders {
		delete(o.heard, o.oldest[0])
		o.oldest = o.oldest[1:]
	}
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

// Heard waits until an order to a run was heard, and returns the entry that says what came of it. It gives up with ctx's
// error.
func (h *History) Heard(ctx context.Context, orderID string) (run.Entry, error) {
	for {
		h.mu.Lock()
		e, ok := h.orders.heard[orderID]
		if h.orders.changed == nil {
			h.orders.changed = make(chan struct{})
		}
		changed := h.orders.changed
		h.mu.Unlock()
		if ok {
			return e, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return run.Entry{}, ctx.Err()
		}
	}
}
