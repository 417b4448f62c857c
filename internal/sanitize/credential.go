package sanitize

import "strings"

const (
	mask = "[redacted]"

	// minCredential is the least length in bytes of a credential that its shape tells.
	minCredential = 10
	// opaqueMin is the length in bytes from which mixed letters and digits count as a credential.
	opaqueMin = 32
	// uuidLen and shortID are the lengths of ids that are no credentials: a UUID (accounts, users)
	// and 24 hex digits (LaunchDarkly's ids, Atlassian's older accounts).
	uuidLen = 36
	shortID = 24
	// minIssued is how much follows the prefix of an issuer at least.
	minIssued = 16
)

// shape is what the characters of a run tell about it.
type shape struct {
	length  int // bytes, without ids
	letters int
	digits  int
	changes int  // between lower case, upper case and digits, beyond the first in a piece
	longest int  // the longest piece
	mixed   int  // the longest piece that has letters and digits
	key     bool // an id that a vendor's prefix makes a credential, or 32 hex digits
}

// isCredential reports whether run, an unbroken run of the characters that credentials are made of,
// has the shape of one.
func isCredential(run string) bool {
	if len(run) < minCredential {
		return false
	}
	if hasPrefixed(run, "ATATT3") || hasPrefixed(run, "ATCTT") || isJWT(run) || isIssued(run) {
		return true
	}
	if len(run) < opaqueMin {
		return false
	}
	m := measure(run)
	if m.key || m.mixed >= opaqueMin {
		return true
	}
	// With separators inside, only a run that changes as often as random text does: a long name of
	// words and numbers, a path or a host name changes far less.
	return m.length >= opaqueMin && m.isRandom()
}

// follows reports whether run is the credential of an HTTP authentication scheme named just before
// it. Plain words are not: "Bearer token is invalid", "Basic plan".
func follows(before, run string, padded bool) bool {
	bearer, basic := strings.EqualFold(before, "Bearer"), strings.EqualFold(before, "Basic")
	if !bearer && !basic {
		return false
	}
	m := measure(run)
	if padded || m.key || m.longest >= 20 || (len(run) >= 8 && m.changes >= 1) {
		return true
	}
	if bearer {
		return len(run) >= 4 && hasDigit(run)
	}
	return m.mixed >= 8 || strings.Contains(run, "/") && hasDigit(run)
}

func hasDigit(s string) bool { return strings.ContainsAny(s, "0123456789") }

// hasPrefixed reports whether run holds prefix and at least four more bytes.
func hasPrefixed(run, prefix string) bool {
	i := strings.Index(run, prefix)
	return i >= 0 && len(run)-i >= len(prefix)+4
}

// isIssued reports whether a piece of run begins as the keys of a known issuer do, and goes on like
// random text: "sk-test" and "npm_publish_2024" are names.
func isIssued(run string) bool {
	for i := 0; i < len(run); i++ {
		if i > 0 && isAlnum(run[i-1]) {
			continue
		}
		prefix := issuerPrefix(run[i:])
		if prefix == "" {
			continue
		}
		rest := run[i+len(prefix):]
		switch {
		case prefix == "AKIA" || prefix == "ASIA": // 16 capitals and digits follow
			if end := strings.TrimLeft(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"); len(rest)-len(end) == 16 {
				return true
			}
		case prefix == "xox": // a letter, numbers and random text
			if len(rest) >= 12 && rest[1] == '-' && hasDigit(rest) {
				return true
			}
		case len(rest) >= minIssued && measure(rest).isRandom():
			return true
		}
	}
	return false
}

// issuerPrefix returns the beginning of s by which an issuer marks its keys, or "".
func issuerPrefix(s string) string {
	var prefixes []string
	switch s[0] {
	case 'A':
		prefixes = []string{"AKIA", "ASIA", "AIza"}
	case 'd':
		prefixes = []string{"dp.", "dop_v1_"}
	case 'g':
		prefixes = []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"}
	case 'h':
		prefixes = []string{"hvs.", "hf_"}
	case 'n':
		prefixes = []string{"npm_"}
	case 'r':
		prefixes = []string{"rk_live_", "rk_test_"}
	case 's':
		prefixes = []string{"sk-", "sk_live_", "sk_test_"}
	case 'x':
		prefixes = []string{"xox", "xapp-"}
	case 'S':
		prefixes = []string{"SG."}
	}
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return prefix
		}
	}
	return ""
}

// isRandom reports whether the run changes as often between letters and digits as random text does.
func (m shape) isRandom() bool { return m.letters > 0 && m.digits > 0 && m.changes*8 >= m.length }

// keyEnd returns the end of a private key in PEM that begins at i, or i where none does. One without
// its end goes on to the end of s.
func keyEnd(s string, i int) int {
	const begin, end = "-----BEGIN ", "-----END "
	if s[i] != '-' || !strings.HasPrefix(s[i:], begin) {
		return i
	}
	label, _, _ := strings.Cut(s[i+len(begin):], "-----")
	if !strings.Contains(label, "PRIVATE KEY") {
		return i
	}
	at := strings.Index(s[i:], end)
	if at < 0 {
		return len(s)
	}
	at += i + len(end)
	if last := strings.Index(s[at:], "-----"); last >= 0 {
		return at + last + len("-----")
	}
	return len(s)
}

// isJWT reports whether run holds a JSON Web Token: base64 of an object, a dot, and more.
func isJWT(run string) bool {
	i := strings.Index(run, "eyJ")
	if i < 0 {
		return false
	}
	header, rest, found := strings.Cut(run[i:], ".")
	return found && len(header) >= 10 && rest != ""
}

// measure reads run piece by piece; pieces are what separators leave between them.
func measure(run string) shape {
	var m shape
	for i := 0; i < len(run); {
		if !isAlnum(run[i]) {
			m.length++
			i++
			continue
		}
		if isUUID(run[i:]) {
			m.key = m.key || hasKeyPrefix(run[:i])
			i += uuidLen
			continue
		}
		end := i
		for end < len(run) && isAlnum(run[end]) {
			end++
		}
		m.piece(run[i:end])
		i = end
	}
	return m
}

func (m *shape) piece(p string) {
	hex := longestHex(p)
	if hex == shortID && len(p) == shortID {
		return
	}
	letters, digits, changes := 0, 0, 0
	for i := range len(p) {
		if class(p[i]) == 'd' {
			digits++
		} else {
			letters++
		}
		if i > 0 && changed(p[i-1], p[i]) {
			changes++
		}
	}
	m.key = m.key || hex >= opaqueMin
	m.length += len(p)
	m.letters += letters
	m.digits += digits
	m.changes += max(0, changes-1)
	m.longest = max(m.longest, len(p))
	if letters > 0 && digits > 0 {
		m.mixed = max(m.mixed, len(p))
	}
}

// hasKeyPrefix reports whether before ends in a prefix that makes a UUID a LaunchDarkly credential:
// an access token, or an SDK, mobile or relay proxy key.
func hasKeyPrefix(before string) bool {
	if len(before) < 4 {
		return false
	}
	switch strings.ToLower(before[len(before)-4:]) {
	case "api-", "sdk-", "mob-", "rel-":
		return true
	}
	return false
}

// isUUID reports whether s begins with a UUID that no letter or digit follows.
func isUUID(s string) bool {
	if len(s) < uuidLen || (len(s) > uuidLen && isAlnum(s[uuidLen])) {
		return false
	}
	for i := range uuidLen {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || (!dash && !isHex(s[i])) {
			return false
		}
	}
	return true
}

func longestHex(s string) int {
	longest, n := 0, 0
	for i := range len(s) {
		n++
		if !isHex(s[i]) {
			n = 0
		}
		longest = max(longest, n)
	}
	return longest
}

// changed reports whether b begins another class than a. A capital before a small letter is how a
// word begins and does not count.
func changed(a, b byte) bool {
	x, y := class(a), class(b)
	return x != y && (x != 'U' || y != 'l')
}

func class(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return 'd'
	case b >= 'A' && b <= 'Z':
		return 'U'
	}
	return 'l'
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F'
}

func isAlnum(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// isRun reports whether b may stand in a credential: letters, digits and what base64, base64url,
// JWT and the vendors' own formats use. "=" is no part: it also parts a name from its value.
func isRun(b byte) bool {
	switch b {
	case '-', '_', '+', '/', '.', '~':
		return true
	default:
		return isAlnum(b)
	}
}

// isGlue reports whether b may stand between a scheme and its credential.
func isGlue(b byte) bool {
	switch b {
	case ' ', ':', '=', '"', '\'':
		return true
	default:
		return false
	}
}

func runEnd(s string, i int) int {
	for i < len(s) && isRun(s[i]) {
		i++
	}
	return i
}

// tailEnd returns where a credential that stops at i really ends: base64 padding belongs to it, and
// so does the checksum that Atlassian's tokens have after "=".
func tailEnd(s string, i int) int {
	end := i
	for end < len(s) && s[end] == '=' {
		end++
	}
	if end == i {
		return i
	}
	return runEnd(s, end)
}
