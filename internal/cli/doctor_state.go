package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// The free space, in bytes, below which a warning or a problem is told: a change whose secret or
// record cannot be written is refused.
const (
	littleSpace = 256 << 20
	noSpace     = 16 << 20
)

const nextState = "mend it, or choose another state directory with --state-dir; changes are refused until then"

const nextDatabase = "mend it; servers do not start, and changes are refused, until then"

func (d *doctor) state(context.Context) []row {
	dir := d.Config.StateDir
	rows := []row{writable("state", dir, nextState)}
	free, err := freeSpace(dir)
	switch {
	case err != nil: // it does not exist yet, or the system does not tell
	case free < noSpace:
		rows = append(rows, problem("state", fmt.Sprintf("its file system has %d MiB left", free>>20), "free some space"))
	case free < littleSpace:
		rows = append(rows, warning("state", fmt.Sprintf("its file system has %d MiB left", free>>20), "free some space"))
	}
	return rows
}

// keys reads the keys that several servers share.
func (d *doctor) keys(ctx context.Context) []row {
	const place = "state.keys"
	reference := d.Config.State.Keys
	if reference.IsZero() || !d.IsSound(place) {
		return nil
	}
	const next = "give age identities, one a line, as tokenreeve state new-keys makes them"
	source, err := sharedKeys(d.Config)
	if err != nil {
		return []row{problem(place, err.Error(), next)}
	}
	keys, err := source.Keys(ctx)
	if err != nil {
		return []row{problem(place, err.Error(), next)}
	}
	return []row{fine(place, "%s: keys: %d", reference, len(keys.Identities()))}
}

// database finds out whether the shared one can be reached and has its tables.
func (d *doctor) database(ctx context.Context) []row {
	const place = "state.postgres"
	s, ok := d.store()
	if !ok {
		return nil // told as a problem of the configuration
	}
	defer s.close()
	exists, err := s.exists(ctx)
	switch {
	case err != nil:
		return []row{problem(place, err.Error(), nextDatabase)}
	case !exists:
		return []row{fine(place, "%s: it can be reached, and has no tables of this version yet; a server that starts, or tokenreeve state migrate, makes them", d.Config.State.Postgres)}
	}
	return []row{fine(place, "%s: it can be reached and has its tables", d.Config.State.Postgres)}
}

// store opens what the configuration keeps, and reports whether that can be told. What is wrong in the
// configuration is told as such.
func (d *doctor) store() (*store, bool) {
	c := d.Config
	if !d.IsSound("recovery_recipients") {
		c.RecoveryRecipients = nil
	}
	if !d.IsSound("state") || !c.State.IsShared() && c.StateDir == "" {
		return nil, false
	}
	s, err := openStore(c, d.limit/2)
	return s, err == nil
}

// next says what to do about a store that cannot be used.
func (s *store) next() string {
	if s.db != nil {
		return nextDatabase
	}
	return nextState
}

// ledger reads the record. It makes none.
func (d *doctor) ledger(ctx context.Context) []row {
	s, ok := d.store()
	if !ok {
		return nil
	}
	defer s.close()
	exists, err := s.exists(ctx)
	if err != nil {
		return nil // told of the database
	}
	if !exists {
		where := s.place
		if s.db != nil {
			where = "the ledger in " + where
		}
		return []row{fine("ledger", "%s is not made yet: nothing was recorded", where)}
	}
	if s.db == nil { // of a database, exists has told
		isCurrent, err := ledger.IsCurrent(ctx, s.file, ledger.Options{Patience: d.limit / 2})
		if err != nil {
			return []row{problem("ledger", err.Error(), s.next())}
		}
		if !isCurrent {
			return []row{fine("ledger", "%s has the form of an earlier version; the next server that starts brings it to this one", s.place)}
		}
	}
	if err := s.ledger.Open(ctx); err != nil {
		return []row{problem("ledger", err.Error(), s.next())}
	}
	return append([]row{verified(ctx, s)}, d.unsettled(ctx, s.ledger)...)
}

// verified reads all of the record, if that can be done in time.
func verified(ctx context.Context, s *store) row {
	report, err := s.ledger.Verify(ctx, "")
	switch {
	case ctx.Err() != nil:
		return warning("ledger", s.place+" is too long to be verified in this time", "run tokenreeve ledger verify, or give --timeout more")
	case err != nil:
		return problem("ledger", err.Error(), s.next())
	case !report.OK():
		return problem("ledger", fmt.Sprintf("%s is not as it was written: %s", s.place, report.Problems[0]), "run tokenreeve ledger verify, which names everything, and restore a backup or look who wrote it")
	}
	return fine("ledger", "%s is as it was written; entries: %d, operations: %d", s.place, report.Entries, report.Operations)
}

// unsettled counts the operations that a person must end.
func (d *doctor) unsettled(ctx context.Context, l *ledger.Ledger) []row {
	var rows []row
	for _, left := range []struct {
		outcome ledger.Outcome
		next    string
	}{
		{ledger.Unknown, "find out what the vendor did, as each note says, and run tokenreeve ledger resolve"},
		{ledger.Escrowed, "run tokenreeve deliver"},
	} {
		found, more, err := records(ctx, l, ledger.Query{Outcome: left.outcome, Limit: ledger.MaxPage})
		if err != nil || len(found) == 0 {
			continue // what is wrong with the record is told already
		}
		count := fmt.Sprint(len(found))
		if more {
			count += " or more"
		}
		rows = append(rows, warning("ledger", fmt.Sprintf("operations that ended as %s: %s", left.outcome, count), "see tokenreeve ledger list --outcome "+string(left.outcome)+"; then "+left.next))
	}
	cutOff, err := l.Unfinished(ctx)
	if err == nil && len(cutOff) > 0 {
		rows = append(rows, fine("ledger", "operations whose process is gone: %d; the next server that starts ends them on record", len(cutOff)))
	}
	return rows
}

// escrow tries the escrow where it has been used, and looks whether what it holds can be read.
func (d *doctor) escrow(ctx context.Context) []row {
	var rows []row
	if d.anyMints() && len(d.Config.RecoveryRecipients) == 0 {
		key := "escrow.key in the state directory"
		if !d.Config.State.Keys.IsZero() {
			key = "state.keys"
		}
		rows = append(rows, warning("recovery_recipients", "there are none: who loses "+key+" loses the secrets that wait in escrow",
			`make a key with age-keygen, keep it elsewhere, and set "recovery_recipients": ["age1..."]`))
	}
	s, ok := d.store()
	if !ok {
		return rows
	}
	defer s.close()
	exists, err := s.exists(ctx)
	if err != nil {
		return rows // told of the database
	}
	entries, err := s.escrow.List(ctx)
	if err != nil {
		return append(rows, problem("escrow", err.Error(), s.next()))
	}
	restore := "restore escrow.key from a backup, or let a holder of a recovery key read it"
	if s.shared != nil {
		restore = "give state.keys the identity from that time as a further line, or let a holder of a recovery key read it"
	}
	unreadable := 0
	for _, entry := range entries {
		if entry.Problem != nil {
			unreadable++
			rows = append(rows, problem("escrow", fmt.Sprintf("the secret of operation %s cannot be read: %v", entry.OperationID, entry.Problem), restore))
		}
	}
	isMade := exists
	if s.db == nil {
		isMade = isThere(d.Config.StateDir, "escrow") && (s.shared != nil || isThere(d.Config.StateDir, "escrow.key"))
	}
	switch {
	case !isMade && unreadable > 0:
		return rows
	case !isMade:
		return append(rows, fine("escrow", "it is not made yet: no secret was kept"))
	}
	if err := s.escrow.Check(ctx); err != nil {
		return append(rows, problem("escrow", err.Error(), s.next()))
	}
	return append(rows, fine("escrow", "a secret can be kept and read back; secrets in it: %d", len(entries)))
}

func isThere(directory, name string) bool {
	_, err := os.Lstat(filepath.Join(directory, name))
	return !errors.Is(err, fs.ErrNotExist)
}

func (d *doctor) anyMints() bool {
	for name := range d.Config.Connections {
		if d.mints(name) {
			return true
		}
	}
	return false
}

// approval finds out whether somebody can agree where somebody must. Revoking a whole organization
// always needs that, which is little to lose where nothing else does.
func (d *doctor) approval(ctx context.Context) []row {
	needs := d.needsPerson()
	if needs == (needed{}) || !d.IsSound("human_approval") {
		return nil
	}
	s, ok := d.store()
	if !ok {
		return nil
	}
	defer s.close()
	const place = "human_approval"
	isSet, err := s.passphrase.IsSet(ctx)
	if err != nil {
		return []row{problem(place, err.Error(), s.next())}
	}
	var ways []string
	if isSet {
		ways = append(ways, "the operator at a terminal")
	}
	approvers := d.approvers()
	if len(approvers) > 0 {
		ways = append(ways, strings.Join(approvers, ", ")+" over HTTP")
	}
	const next = "run tokenreeve approve --setup at a terminal, with the configuration and the state directory of the server; or give a caller over HTTP the role approver"
	switch {
	case needs.second && !d.http && len(approvers) == 0:
		return []row{problem(place+".second_person", "another than the local user must agree to changes of several tokens, and auth gives nobody the role approver",
			"give somebody that role, and run tokenreeve serve --listen on the same state")}
	case len(ways) > 0:
		return []row{fine(place, "who can agree to changes: %s", strings.Join(ways, "; "))}
	case needs.second || needs.required:
		return []row{problem(place, "somebody must agree to changes, and nobody can: no passphrase is set, and no caller approves", next)}
	}
	return []row{warning(place, "somebody must agree to revoke a whole organization, and nobody can: no passphrase is set, and no caller approves", next)}
}

// needed says for which changes that policy allows somebody must agree, besides the confirm code.
type needed struct{ required, second, orgWide bool }

func (d *doctor) needsPerson() needed {
	h := d.Config.HumanApproval
	isTrusted := h.TrustClient && !d.http // the client's answer is enough
	var n needed
	for name, c := range d.Config.Connections {
		n.required = n.required || d.changes(name) && !isTrusted && (h.Single == policy.ApprovalRequired || h.Bulk == policy.ApprovalRequired)
		n.second = n.second || h.SecondPerson && (d.allows(name, policy.Bulk) || d.allows(name, policy.Revoke) || d.allows(name, policy.Rotate))
		n.orgWide = n.orgWide || c.OrgWideRevoke && d.allows(name, policy.Bulk) && !isTrusted
	}
	return n
}

// approvers names the callers over HTTP who may approve on some connection. Where stdio is served, they
// do so at another server on the same state.
func (d *doctor) approvers() []string {
	if !d.IsSound("auth") {
		return nil
	}
	var names []string
	add := func(name string, g auth.Grant) {
		p := auth.NewPrincipal(name, "", g)
		for connection := range d.Config.Connections {
			if p.MayApprove("somebody else", connection) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, token := range d.Config.Auth.StaticTokens() {
		add("token:"+token.Name, token.Grant)
	}
	for _, value := range slices.Sorted(maps.Keys(d.Config.Auth.OIDC.Roles)) {
		add("who has "+strconv.Quote(value), auth.Grant(d.Config.Auth.OIDC.Roles[value]))
	}
	return names
}
