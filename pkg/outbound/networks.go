package outbound

import "net/netip"

// networks tells public addresses from others.
type networks struct {
	allowed []netip.Prefix // by the operator
	global  netip.Prefix   // all of IPv6 that is handed out to the public
	special []netip.Prefix // what is not public although net/netip does not know it
	nat64   netip.Prefix
	sixTo4  netip.Prefix
}

// newNetworks holds the facts of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and later) and of the
// IPv6 Global Unicast registry. What is not known to be public is not.
func newNetworks(allow []netip.Prefix) networks {
	n := networks{
		global: netip.MustParsePrefix("2000::/3"),
		nat64:  netip.MustParsePrefix("64:ff9b::/96"), // RFC 6052
		sixTo4: netip.MustParsePrefix("2002::/16"),    // RFC 3056
	}
	for _, p := range []string{
		"0.0.0.0/8",       // this network
		"100.64.0.0/10",   // carriers' NAT; clouds put metadata there, too
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // 6to4 relays
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"240.0.0.0/4",     // reserved, and broadcast
		"2001::/23",       // protocol assignments; Teredo holds an IPv4 address
		"2001:db8::/32",   // documentation
		"3fff::/20",       // documentation
	} {
		n.special = append(n.special, netip.MustParsePrefix(p))
	}
	for _, p := range allow {
		n.allowed = append(n.allowed, unmapped(p))
	}
	return n
}

// unmapped is a prefix of IPv4 where it was one of IPv4 addresses written as IPv6.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// ok reports whether the address may be connected to. It has no zone and is not IPv4 written as IPv6.
func (n *networks) ok(a netip.Addr) bool {
	if contains(n.allowed, a) {
		return true
	}
	if inner, ok := n.embedded(a); ok {
		return n.ok(inner)
	}
	if a.Is6() && !n.global.Contains(a) {
		return false
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !contains(n.special, a)
}

// embedded returns the IPv4 address that NAT64 and 6to4 addresses lead to.
func (n *networks) embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case n.nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case n.sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
