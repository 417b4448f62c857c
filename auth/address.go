package auth

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// maxHops is how many entries of X-Forwarded-For are read, from its end.
const maxHops = 16

// origin is where a request comes from.
type origin struct {
	addr netip.Addr // invalid where nobody knows
	// isShared says that it may be the address of many callers: a proxy's, or this machine's.
	isShared bool
}

// String returns the address, or "" where nobody knows it.
func (o origin) String() string {
	if !o.addr.IsValid() {
		return ""
	}
	return o.addr.String()
}

// network is what one caller has at their disposal: an IPv4 address, or an IPv6 network of 64 bits.
type network = netip.Prefix

func (o origin) network() network {
	bits := 32
	if o.addr.Is6() {
		bits = 64
	}
	prefix, _ := o.addr.Prefix(bits) // fails for no valid address
	return prefix
}

// address finds out where r comes from. X-Forwarded-For counts where a trusted proxy sent it, and of
// it only what trusted proxies have added: its end.
func (o *Options) address(r *http.Request) origin {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return origin{isShared: true}
	}
	addr := plainAddr(peer.Addr())
	if !o.trusts(addr) {
		isProxy := o.BehindProxy && len(o.TrustedProxies) == 0
		return origin{addr, isProxy || addr.IsLoopback()}
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i, hop := range slices.Backward(hops) {
		before, ok := parseHop(hop)
		if !ok || len(hops)-i > maxHops {
			break
		}
		addr = before
		if !o.trusts(addr) {
			return origin{addr, addr.IsLoopback()}
		}
	}
	return origin{addr, true}
}

// Address returns the IP address where r comes from, as far as proxies are trusted; empty where nobody
// knows.
func (o *Options) Address(r *http.Request) string { return o.address(r).String() }

func (o *Options) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(o.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseHop reads an entry of X-Forwarded-For: an address, and with some proxies its port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return plainAddr(withPort.Addr()), true
	}
	addr, err := netip.ParseAddr(hop)
	return plainAddr(addr), err == nil
}

// plainAddr gives an address its one form.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// ParseProxies reads the addresses of trusted proxies: IP addresses and networks such as 10.0.0.0/8.
func ParseProxies(words []string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, word := range words {
		prefix, err := parseProxy(word)
		if err != nil {
			return nil, err
		}
		proxies = append(proxies, prefix)
	}
	return proxies, nil
}

func parseProxy(word string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(word); err == nil {
		addr = plainAddr(addr)
		return addr.Prefix(addr.BitLen())
	}
	prefix, err := netip.ParsePrefix(word)
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("trusted proxy %q is no address; valid: an IP address or a network, for example 10.0.0.0/8", sanitize.Message(word))
	case prefix.Bits() == 0:
		return prefix, fmt.Errorf("trusted proxy %q is everybody, who could then claim any address; valid: the addresses of your proxies", sanitize.Message(word))
	}
	return prefix.Masked(), nil
}
