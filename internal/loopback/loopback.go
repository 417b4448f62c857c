// Package loopback tells the hosts that never leave this machine from all others: to them, and to no
// other, a credential may go without TLS, and on them a server may listen without it.
package loopback

import (
	"net/netip"
	"strings"
)

// IsHost reports whether host is localhost or a loopback address. It has no port and no brackets.
func IsHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
