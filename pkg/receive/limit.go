package receive

import (
	"container/list"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// bucket holds tokens that come back with time. It may go into debt.
type bucket struct {
	tokens float64
	last   time.Time
}

func (r Rate) burst() float64 { return float64(orElse(r.Burst, r.Requests)) }

func (b *bucket) refill(r Rate, now time.Time) {
	if b.last.IsZero() {
		b.tokens = r.burst()
	} else if d := now.Sub(b.last); d > 0 {
		b.tokens = min(r.burst(), b.tokens+float64(r.Requests)*float64(d)/float64(r.Per))
	}
	b.last = now // also when the clock went back, or it would stand still until then
}

// wait returns how long until there is a token; 0 if there is one.
func (b *bucket) wait(r Rate) time.Duration {
	if b.tokens >= 1 {
		return 0
	}
	return max(time.Duration((1-b.tokens)/float64(r.Requests)*float64(r.Per)), 1)
}

// maxAddresses is how many addresses the limit remembers; beyond it the one that misbehaved longest ago is forgotten.
const maxAddresses = 16 << 10

// addresses counts what each remote address did wrong lately. Who does nothing wrong is not in it.
type addresses struct {
	rate Rate
	max  int

	mu    sync.Mutex
	byKey map[netip.Addr]*list.Element // of *address
	order list.List                    // latest first
}

type address struct {
	key netip.Addr
	bucket
}

func newAddresses(r Rate, most int) *addresses {
	return &addresses{rate: r, max: most, byKey: map[netip.Addr]*list.Element{}}
}

// wait returns how long the address must wait before its next request; 0 if it need not.
func (a *addresses) wait(addr netip.Addr, now time.Time) time.Duration {
	if a.rate.Requests == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.byKey[network(addr)]
	if !ok {
		return 0
	}
	b := e.Value.(*address)
	b.refill(a.rate, now)
	return b.wait(a.rate)
}

// charge takes a token from the address. Requests that were let in together can bring it into debt, but not far.
func (a *addresses) charge(addr netip.Addr, now time.Time) {
	if a.rate.Requests == 0 {
		return
	}
	key := network(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	e, ok := a.byKey[key]
	if !ok {
		if len(a.byKey) >= a.max {
			delete(a.byKey, a.order.Remove(a.order.Back()).(*address).key)
		}
		e = a.order.PushFront(&address{key: key})
		a.byKey[key] = e
	}
	a.order.MoveToFront(e)
	b := e.Value.(*address)
	b.refill(a.rate, now)
	b.tokens = max(b.tokens-1, -a.rate.burst())
}

// network is what counts as one address: of IPv6 the /64 that a single host usually has to itself.
func network(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	p, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}

// clientAddr is where the request comes from: behind trusted proxies the last address in X-Forwarded-For that is none
// of theirs. The zero address stands for what can't be told.
func (rc *Receiver) clientAddr(r *http.Request) netip.Addr {
	peer := parseAddr(r.RemoteAddr)
	if len(rc.TrustedProxies) == 0 || !rc.trusted(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := parseAddr(strings.TrimSpace(hops[i]))
		if !hop.IsValid() {
			return peer // a proxy of ours wrote something else than an address: nothing before it can be believed
		}
		if peer = hop; !rc.trusted(hop) {
			return hop
		}
	}
	return peer
}

func (rc *Receiver) trusted(addr netip.Addr) bool {
	for _, p := range rc.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// parseAddr reads an address with or without a port.
func parseAddr(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}
