package config

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

const (
	maxName     = 63
	maxPageSize = 1000
	// maxSinkTimeout leaves the vendor its share of the time that a change has.
	maxSinkTimeout = time.Minute

	day          = 24 * time.Hour
	maxRetention = 30 * day

	validName      = "lower-case letters, digits, - and _, a letter or digit first, at most 63, for example acme-mailtrap"
	validReference = `{"env": NAME}, {"file": PATH}, {"exec": [ARGV]} or {"keyring": NAME}`
	validAccountID = "the account's number, at least 1"
)

func logLevels() []string  { return []string{"debug", "info", "warn", "error"} }
func logFormats() []string { return []string{"text", "json"} }

// check judges what the file says. What the environment and flags say is judged where it is read.
func (l *loader) check() {
	c, ps := &l.config, &l.problems
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		connection := c.Connections[name]
		l.checkConnection(below("connections", name), name, &connection)
		c.Connections[name] = connection
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		settings := c.Sinks[name]
		l.checkSink(below("sinks", name), name, &settings)
		c.Sinks[name] = settings
	}
	l.checkAuth()
	l.checkApproval()
	l.checkState()
	l.checkEscrow()
	if c.RateReserve < 0 || c.RateReserve > 0.9 {
		ps.add("rate_reserve", "is out of range; valid: 0 to 0.9")
	}
	if c.Timeout < time.Second || c.Timeout > 5*time.Minute {
		ps.add("timeout", "is out of range; valid: 1s to 5m")
	}
	if c.CAFile != "" {
		c.CAFile = l.checkPath("ca_file", c.CAFile)
	}
	l.checkServe()
	checkOneOf(ps, "log.level", c.Log.Level, logLevels())
	checkOneOf(ps, "log.format", c.Log.Format, logFormats())
}

func (l *loader) checkState() {
	s := &l.config.State
	l.checkOptional("state.postgres", s.Postgres)
	l.checkOptional("state.keys", s.Keys)
	if s.IsShared() && s.Keys.IsZero() {
		l.problems.add("state.keys", `is missing, and servers that share a database must share their keys: make them once with "tokenreeve state new-keys", give them to every server, and name here where they are kept; valid: %s`, validReference)
	}
}

// checkOptional judges the place of a credential that may be left out.
func (l *loader) checkOptional(place string, r auth.Reference) {
	if r.IsZero() {
		return
	}
	if err := r.Validate(); err != nil {
		l.problems.add(place, "%v", err)
	}
}

func (l *loader) checkEscrow() {
	c := &l.config
	for i, key := range c.RecoveryRecipients {
		if _, err := sink.ParseRecipients([]string{key}); err != nil {
			// The place says which one it is.
			text := strings.TrimPrefix(err.Error(), "recovery recipient 1 ")
			l.problems.add(element("recovery_recipients", i), "%s", text)
		}
	}
	if c.EscrowRetention < time.Hour || c.EscrowRetention > maxRetention {
		l.problems.add("escrow_retention", "is out of range; valid: 1h to 30d")
	}
}

func (l *loader) checkConnection(place, name string, c *Connection) {
	ps := &l.problems
	if ps.at[place] {
		return // not even an object
	}
	if !isName(name) {
		ps.add(place, "is not a connection's name; valid: %s", validName)
	}
	if c.Provider == "" {
		ps.add(place+".provider", "is missing; valid: %s, %s, %s", Atlassian, LaunchDarkly, Mailtrap)
	} else if checkOneOf(ps, place+".provider", c.Provider, []string{Atlassian, LaunchDarkly, Mailtrap}) {
		l.checkEffect(place, c.Provider)
		l.checkMembers(place, reflect.TypeFor[Connection](), "provider", c.Provider, "connections")
	}
	l.checkCredentials(place, c)
	if c.BaseURL != "" {
		checkBaseURL(ps, place+".base_url", c.BaseURL)
	}
	l.checkAccount(place, c)
	if l.present[place+".page_size"] && (c.PageSize < 1 || c.PageSize > maxPageSize) {
		ps.add(place+".page_size", "is out of range; valid: 1 to %d", maxPageSize)
	}
	if c.PathFamily != "" {
		checkOneOf(ps, place+".path_family", c.PathFamily, []string{"account", "flat"})
	}
	if c.ResourceWords != "" {
		checkOneOf(ps, place+".resource_words", c.ResourceWords, []string{"current", "old"})
	}
	if c.Sink != "" {
		l.checkSinkOf(place+".sink", c.Sink)
	}
	l.checkPolicy(place, c)
}

// checkMembers refuses members that, by their tag, belong to others than kind, also where they hold
// nothing: whoever wrote them expects an effect.
func (l *loader) checkMembers(place string, t reflect.Type, tag, kind, what string) {
	var valid, foreign []string
	owners := map[string]string{}
	f := fieldsOf(t)
	for _, name := range f.names {
		belongs := t.Field(f.index[name]).Tag.Get(tag)
		if belongs == "" || slices.Contains(strings.Split(belongs, ","), kind) {
			valid = append(valid, name)
		} else if l.present[place+"."+name] {
			foreign = append(foreign, name)
			owners[name] = strings.ReplaceAll(belongs, ",", " and ")
		}
	}
	for _, name := range foreign {
		l.problems.add(place+"."+name, "belongs to %s %s only; valid at %s: %s", owners[name], what, kind, strings.Join(valid, ", "))
	}
}

func (l *loader) checkCredentials(place string, c *Connection) {
	l.checkReference(place+".credential", c.Credential)
	if !l.present[place+".user_management_credential"] {
		return
	}
	if err := c.UserManagementCredential.Validate(); err != nil {
		l.problems.add(place+".user_management_credential", "%v", err)
	}
}

// checkReference judges the place of a credential that is required.
func (l *loader) checkReference(place string, r auth.Reference) {
	if !l.present[place] {
		l.problems.add(place, "is missing; valid: "+validReference)
	} else if err := r.Validate(); err != nil {
		l.problems.add(place, "%v", err)
	}
}

func (l *loader) checkAccount(place string, c *Connection) {
	switch c.Provider {
	case Atlassian:
		if c.OrgID == "" {
			l.problems.add(place+".org_id", "is missing; valid: the organization's id, a UUID")
			return
		}
		checkOrgID(&l.problems, place+".org_id", c.OrgID)
	case Mailtrap:
		if !l.present[place+".account_id"] {
			l.problems.add(place+".account_id", "is missing; valid: %s", validAccountID)
		} else if c.AccountID < 1 {
			l.problems.add(place+".account_id", "is not an account id; valid: %s", validAccountID)
		}
	}
}

func (l *loader) checkSinkOf(place, name string) {
	if _, ok := l.config.Sinks[name]; ok {
		return
	}
	names := slices.Sorted(maps.Keys(l.config.Sinks))
	if len(names) == 0 {
		l.problems.add(place, `names a sink, and none is configured; add it under "sinks"`)
		return
	}
	l.problems.add(place, "is %s, which is not configured%s; valid: %s", quote(name), suggestion(name, names), strings.Join(names, ", "))
}

func (l *loader) checkSink(place, name string, s *Sink) {
	if l.problems.at[place] {
		return // not even an object
	}
	if !isName(name) {
		l.problems.add(place, "is not a sink's name; valid: %s", validName)
	}
	types := []string{FileSink, KeyringSink, ExecSink, VaultSink}
	if s.Type == "" {
		l.problems.add(place+".type", "is missing; valid: %s", strings.Join(types, ", "))
	} else if checkOneOf(&l.problems, place+".type", s.Type, types) {
		l.checkMembers(place, reflect.TypeFor[Sink](), "type", s.Type, "sinks")
	}
	if s.Directory != "" {
		s.Directory = l.checkPath(place+".directory", s.Directory)
	}
	if s.Format != "" {
		checkOneOf(&l.problems, place+".format", s.Format, []string{"raw", Dotenv})
	}
	if s.CAFile != "" {
		s.CAFile = l.checkPath(place+".ca_file", s.CAFile)
	}
	switch s.Type {
	case FileSink:
		if s.Directory == "" {
			l.problems.add(place+".directory", "is missing; valid: an absolute path, or one that begins with ~/")
		}
	case ExecSink:
		if l.present[place+".timeout"] && (s.Timeout < time.Second || s.Timeout > maxSinkTimeout) {
			l.problems.add(place+".timeout", "is out of range; valid: 1s to 1m")
		}
		l.addFaults(place, s.ExecOptions().Faults())
	case VaultSink:
		l.checkReference(place+".token", s.Token)
		l.addFaults(place, s.VaultOptions().Faults())
	}
	l.checkAccept(place, s.Accept)
}

func (l *loader) checkAccept(place string, a Accept) {
	l.addFaults(place, sink.Accept(a).Faults())
	connections := slices.Sorted(maps.Keys(l.config.Connections))
	for i, name := range a.Connections {
		if name != "" && !slices.Contains(connections, name) {
			l.problems.add(element(place+".accept.connections", i), "is %s, which is not configured%s; valid: %s", quote(name), suggestion(name, connections), strings.Join(connections, ", "))
		}
	}
}

// addFaults reports what the sink itself finds wrong.
func (l *loader) addFaults(place string, faults []sink.Fault) {
	for _, f := range faults {
		l.problems.add(place+"."+f.Setting, "%v", f.Err)
	}
}

// checkPath returns the absolute path of one in the file.
func (l *loader) checkPath(place, path string) string {
	absolute, err := trustedfile.Absolute(path, l.dirs.home())
	if err != nil {
		l.problems.add(place, "%v", err)
	}
	return absolute
}

// checkOneOf reports whether value is one of the valid words.
func checkOneOf(ps *report, place, value string, valid []string) bool {
	if slices.Contains(valid, value) {
		return true
	}
	ps.add(place, "is %s%s; valid: %s", quote(value), suggestion(value, valid), strings.Join(valid, ", "))
	return false
}

// checkBaseURL does not quote the URL: it may hold a password.
func checkBaseURL(ps *report, place, base string) {
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		ps.add(place, "is not a URL; valid: https://HOST")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(base, "#"):
		ps.add(place, "holds a user, a query or a fragment; valid: https://HOST, with a path where needed")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback.IsHost(u.Hostname())):
		ps.add(place, "would send the credential unencrypted; valid: https://HOST, or http:// on this machine")
	}
}

func checkOrgID(ps *report, place, id string) {
	if !isUUID(id) {
		ps.add(place, "is not a UUID; valid: the organization's id, for example 8d2f6f1c-5a1e-4b7c-9c39-1f6a2f1d7e55")
	}
}

func isUUID(s string) bool {
	groups := strings.Split(s, "-")
	if len(groups) != 5 {
		return false
	}
	for i, length := range [...]int{8, 4, 4, 4, 12} {
		if len(groups[i]) != length || strings.Trim(groups[i], "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return true
}

// isName reports whether s matches ^[a-z0-9][a-z0-9_-]{0,62}$.
func isName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[0] == '_' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// quote shows a word of the operator's, cleaned and with any credential in it masked.
func quote(s string) string {
	clean, _ := sanitize.Text(sanitize.Message(s), 64)
	return `"` + strings.ReplaceAll(clean, `"`, `'`) + `"`
}
