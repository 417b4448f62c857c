package e2e_test

import (
	"bytes"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// stateDir is where the binary keeps its state by default.
func (v *vendors) stateDir() string { return filepath.Join(v.home, ".local", "state", "tokenreeve") }

// ledger opens the ledger of the binary's default configuration.
func (v *vendors) ledger(t *testing.T, now func() time.Time) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(v.stateDir(), "ledger.db"), ledger.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// database opens the ledger's file past the ledger.
func (v *vendors) database(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(v.stateDir(), "ledger.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// tamper changes the ledger's file past the ledger.
func (v *vendors) tamper(t *testing.T, statements ...string) {
	t.Helper()
	db := v.database(t)
	for _, name := range []string{"entries_only_follow", "entries_never_change", "entries_never_go"} {
		statements = append([]string{"DROP TRIGGER IF EXISTS " + name}, statements...)
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

func revocation(token string, change ...func(*ledger.Intent)) ledger.Intent {
	i := ledger.Intent{
		Principal: "local", Client: ledger.Client{Name: "claude", Version: "1"}, Tool: "revoke_token", Class: "revoke",
		Connection: "launchdarkly", Provider: "launchdarkly", Account: "acme",
		Targets: []ledger.Target{{ID: token, Owner: "o1", Name: "deploy"}}, Reason: "unused",
	}
	for _, c := range change {
		c(&i)
	}
	return i
}

// begun makes an open operation. Nobody ends it.
func begun(t *testing.T, l *ledger.Ledger, i ledger.Intent) *ledger.Lease {
	t.Helper()
	lease, err := l.Begin(t.Context(), "", i)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// ended makes an operation with this end and returns its id.
func ended(t *testing.T, l *ledger.Ledger, i ledger.Intent, r ledger.Result) string {
	t.Helper()
	lease := begun(t, l, i)
	if err := errors.Join(lease.Step(t.Context(), "sent", ledger.Details{VendorRequestID: "req-1"}), lease.Finish(t.Context(), r)); err != nil {
		t.Fatal(err)
	}
	return lease.ID()
}

// history is a ledger with one operation of each kind, by a name.
func (v *vendors) history(t *testing.T) (*ledger.Ledger, map[string]string) {
	t.Helper()
	day := 24 * time.Hour
	old := v.ledger(t, func() time.Time { return time.Now().Add(-10 * day) })
	ids := map[string]string{}
	ids["old"] = ended(t, old, revocation("t-old"), ledger.Result{Outcome: ledger.AlreadyGone})
	l := v.ledger(t, nil)
	ids["failed"] = ended(t, l, revocation("t-failed", func(i *ledger.Intent) { i.Principal, i.Connection = "ci", "mailtrap" }),
		ledger.Result{Outcome: ledger.Failed, ErrorCode: "forbidden"})
	ids["created"] = ended(t, l, revocation("", func(i *ledger.Intent) { i.Tool, i.Class, i.Targets = "create_mailtrap_token", "mint", nil }),
		ledger.Result{Outcome: ledger.Done, Details: ledger.Details{NewTokenID: "t-new", Fingerprint: "hmac-sha256:0011223344556677"}})
	group := begun(t, l, revocation("t-1", func(i *ledger.Intent) {
		i.Tool, i.Class, i.Group = "bulk_revoke_tokens", "bulk", true
		i.Targets = []ledger.Target{{ID: "t-1"}, {ID: "t-2"}, {ID: "t-3"}}
	}))
	ids["group"] = group.ID()
	part := func(i *ledger.Intent) { i.Parent = group.ID() }
	ids["part 1"] = ended(t, l, revocation("t-1", part), ledger.Result{Outcome: ledger.Done})
	ids["part 2"] = ended(t, l, revocation("t-2", part), ledger.Result{Outcome: ledger.Unknown, ErrorCode: "answer_lost"})
	if err := group.Finish(t.Context(), ledger.Result{Outcome: ledger.Unknown}); err != nil {
		t.Fatal(err)
	}
	ids["held"] = begun(t, l, revocation("t-held")).ID()
	cutOff := begun(t, l, revocation("t-cut"))
	if err := cutOff.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids["cut off"] = cutOff.ID()
	return l, ids
}

func TestLedgerList(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	_, ids := v.history(t)
	names := map[string]string{}
	for name, id := range ids {
		names[id] = name
	}
	for name, test := range map[string]struct {
		args []string
		want []string // in the order of the listing
		more bool
	}{
		"all":        {nil, []string{"cut off", "held", "part 2", "part 1", "group", "created", "failed", "old"}, false},
		"since":      {[]string{"--since", "7d", "--connection", "launchdarkly", "--tool", "revoke_token"}, []string{"cut off", "held", "part 2", "part 1"}, false},
		"a date":     {[]string{"--since", "2020-01-31", "--outcome", "already_gone"}, []string{"old"}, false},
		"a time":     {[]string{"--since", time.Now().Add(time.Hour).Format(time.RFC3339)}, nil, false},
		"connection": {[]string{"--connection", "mailtrap"}, []string{"failed"}, false},
		"tool":       {[]string{"--tool", "create_mailtrap_token"}, []string{"created"}, false},
		"outcome":    {[]string{"--outcome", "unknown"}, []string{"part 2", "group"}, false},
		"open":       {[]string{"--outcome", "open"}, []string{"cut off", "held"}, false},
		"principal":  {[]string{"--principal", "ci"}, []string{"failed"}, false},
		"parent":     {[]string{"--parent", ids["group"]}, []string{"part 2", "part 1"}, false},
		"limit":      {[]string{"--limit", "2"}, []string{"cut off", "held"}, true},
		"the limit":  {[]string{"--limit", "8", "--outcome", "unknown"}, []string{"part 2", "group"}, false},
		"none":       {[]string{"--tool", "rotate_token"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := run(t, v.bareEnv(), 0, "", append([]string{"ledger", "list"}, test.args...)...)
			var table []string
			for line := range strings.Lines(stdout) {
				if id, _, _ := strings.Cut(line, " "); id != "ID" {
					table = append(table, names[id])
				}
			}
			if diff := cmp.Diff(test.want, table); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
			if contains(stderr, "there are more") != test.more {
				t.Errorf("stderr: %s", stderr)
			}
			stdout, _ = run(t, v.bareEnv(), 0, "", append([]string{"ledger", "list", "--json"}, test.args...)...)
			var listed struct {
				Operations []struct{ ID string }
				More       bool
			}
			if err := json.Unmarshal([]byte(stdout), &listed); err != nil {
				t.Fatal(err)
			}
			var inJSON []string
			for _, o := range listed.Operations {
				inJSON = append(inJSON, names[o.ID])
			}
			if diff := cmp.Diff(test.want, inJSON); diff != "" || listed.More != test.more {
				t.Errorf("JSON, more %v (-want +got):\n%s", listed.More, diff)
			}
		})
	}
}

func TestLedgerListRows(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	_, ids := v.history(t)
	stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "list")
	for name, row := range map[string]string{
		"failed":  `ci +revoke_token +mailtrap +t-failed +failed +forbidden`,
		"created": `local +create_mailtrap_token +launchdarkly +t-new +done`,
		"group":   `local +bulk_revoke_tokens +launchdarkly +t-1 \+2 +unknown`,
		"part 2":  `local +revoke_token +launchdarkly +t-2 +unknown +answer_lost`,
		"held":    `local +revoke_token +launchdarkly +t-held +open`,
		"cut off": `local +revoke_token +launchdarkly +t-cut +open \(cut off\)`,
	} {
		if !regexp.MustCompile(`(?m)^` + ids[name] + ` +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +` + row + ` *$`).MatchString(stdout) {
			t.Errorf("%s: no such row in:\n%s", name, stdout)
		}
	}
}

// multiply makes many operations of the only one.
func (v *vendors) multiply(t *testing.T, n int) {
	t.Helper()
	db := v.database(t)
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM pragma_table_info('operations')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var values []string
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		switch column {
		case "id":
			column = "id || '-' || i"
		case "seq":
			column = "seq + i"
		case "state":
			column = "replace(state, id, id || '-' || i)"
		}
		values = append(values, column)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	v.tamper(t, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO operations SELECT %s FROM operations, n`, n-1, strings.Join(values, ", ")))
}

// A long listing takes several pages.
func TestLedgerListLong(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	ended(t, v.ledger(t, nil), revocation("t-1"), ledger.Result{Outcome: ledger.Done})
	v.multiply(t, 1500)
	for limit, more := range map[int]bool{999: true, 1000: true, 1001: true, 1499: true, 1500: false, 3000: false} {
		stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "list", "--json", "--limit", fmt.Sprint(limit))
		var listed struct {
			Operations []struct{ ID string }
			More       bool
		}
		if err := json.Unmarshal([]byte(stdout), &listed); err != nil {
			t.Fatal(err)
		}
		different := map[string]bool{}
		for _, o := range listed.Operations {
			different[o.ID] = true
		}
		if want := min(limit, 1500); len(listed.Operations) != want || len(different) != want || listed.More != more {
			t.Errorf("limit %d: %d operations, %d different ones, more %v", limit, len(listed.Operations), len(different), listed.More)
		}
	}
}

func TestLedgerShow(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	_, ids := v.history(t)
	for name, want := range map[string][]string{
		"failed": {
			"id: " + ids["failed"], "principal: ci", `client: {"name":"claude","version":"1"}`, "tool: revoke_token", "connection: mailtrap",
			"account: acme", "t-failed  o1     deploy", "reason: unused", "outcome: failed", "error_code: forbidden", "vendor_request_id: req-1",
			" intent ", " step     sent ", " outcome  failed forbidden ",
		},
		"created": {"new_token_id: t-new", "fingerprint: hmac-sha256:0011223344556677", "outcome: done"},
		"group":   {"children:\n", ids["part 1"] + "  t-1     done", ids["part 2"] + "  t-2     unknown  answer_lost"},
		"held":    {"outcome: open", "held_until: "},
		"cut off": {"outcome: open", "cut_off: true"},
	} {
		stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "show", ids[name])
		for _, part := range want {
			if !contains(stdout, part) {
				t.Errorf("%s: no %q in:\n%s", name, part, stdout)
			}
		}
		plain(t, name, stdout)
	}
	stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "show", "--json", ids["group"])
	var shown struct {
		Operation struct {
			ID, Outcome string
			Targets     []struct{ ID string }
		}
		Children []struct{ ID, Outcome string }
		History  []ledger.Entry
	}
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil {
		t.Fatal(err)
	}
	if shown.Operation.ID != ids["group"] || shown.Operation.Outcome != "unknown" || len(shown.Operation.Targets) != 3 || len(shown.Children) != 2 {
		t.Errorf("shown: %+v", shown)
	}
	if len(shown.History) != 2 {
		t.Errorf("%d entries of the group", len(shown.History))
	}
	for _, e := range shown.History {
		var compact bytes.Buffer
		if err := json.Compact(&compact, e.Body); err != nil {
			t.Fatal(err)
		}
		e.Body = compact.Bytes()
		if e.Digest() != e.Hash || e.Operation != ids["group"] {
			t.Errorf("entry %d is not as it was written", e.Seq)
		}
	}
	_, stderr := run(t, v.bareEnv(), 1, "", "ledger", "show", "no\x1b[31m-such")
	if !contains(stderr, "no operation") {
		t.Errorf("unknown id: %s", stderr)
	}
	plain(t, "unknown id", stderr)
}

func TestLedgerExport(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	l, ids := v.history(t)
	for _, format := range []ledger.Format{ledger.JSONLines, ledger.CSV} {
		var want strings.Builder
		if err := l.Export(t.Context(), &want, format); err != nil {
			t.Fatal(err)
		}
		stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "export", "--format", string(format))
		if diff := cmp.Diff(want.String(), stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
		path := filepath.Join(v.home, "export."+string(format))
		stdout, _ = run(t, v.bareEnv(), 0, "", "ledger", "export", "--format", string(format), "--output", path)
		if got := v.file(t, "export."+string(format)); stdout != "" || got != want.String() {
			t.Errorf("%s: the file holds %q, and stdout is %q", format, got, stdout)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v)", format, info.Mode(), err)
		}
		_, stderr := run(t, v.bareEnv(), 1, "", "ledger", "export", "--output", path)
		if got := v.file(t, "export."+string(format)); got != want.String() || !contains(stderr, "taken") {
			t.Errorf("%s: the file was overwritten, or nothing was said: %s", format, stderr)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(v.file(t, "export.csv"))).ReadAll()
	if err != nil || len(rows) != len(ids)+1 {
		t.Errorf("%d rows (%v)", len(rows), err)
	}
	stdout, stderr := run(t, v.bareEnv(), 1, "", "ledger", "export", "--format", "xml")
	if stdout != "" || !contains(stderr, "jsonl, csv") {
		t.Errorf("another format: %s", stderr)
	}
	if left := slices.DeleteFunc(entries(t, v.home), func(name string) bool { return name == ".local" }); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range found {
		names = append(names, e.Name())
	}
	return names
}

// Verify finds what it says that it finds, in the ledger and in an export of it.
func TestLedgerVerify(t *testing.T) {
	t.Parallel()
	const last = `(SELECT operation_id FROM entries ORDER BY seq DESC LIMIT 1)`
	const cutLast = `DELETE FROM operations WHERE id = ` + last + `; DELETE FROM entries WHERE operation_id = ` + last
	for name, test := range map[string]struct {
		tamper  string
		head    bool   // gives the last head
		code    int    // of the ledger's verification
		problem string // of the ledger
		inFile  bool   // the export has it, too
	}{
		"intact":            {"", false, 0, "", true},
		"intact, head":      {"", true, 0, "", true},
		"altered":           {`UPDATE entries SET body = replace(body, 't-failed', 't-other') WHERE seq = 4`, false, 1, "problem: entry 4: it was altered", true},
		"removed":           {`DELETE FROM entries WHERE seq = 5`, false, 1, "problem: entry 6: the entry before it, 5, is missing", true},
		"a state":           {`UPDATE operations SET outcome = 'done' WHERE outcome = 'failed'`, false, 1, "its state is not what its entries say", false},
		"cut":               {cutLast, false, 0, "", true},
		"cut, head":         {cutLast, true, 1, "the given head is not in the chain", true},
		"an escape in hash": {`UPDATE entries SET hash = hash || char(27) || '[31m' WHERE seq = 4`, false, 1, "problem: entry 4", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			l, ids := v.history(t)
			ids["last"] = ended(t, l, revocation("t-last"), ledger.Result{Outcome: ledger.Done})
			head, err := l.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var given []string
			if test.head {
				given = []string{"--head", head.Hash}
			}
			if test.tamper != "" {
				v.tamper(t, test.tamper)
			}
			stdout, _ := run(t, v.bareEnv(), test.code, "", append([]string{"ledger", "verify"}, given...)...)
			if !contains(stdout, test.problem) || contains(stdout, "problem:") != (test.problem != "") {
				t.Errorf("no %q in:\n%s", test.problem, stdout)
			}
			if test.tamper == "" && !contains(stdout, fmt.Sprintf("operations: %d\nhead: %s\n", len(ids), head.Hash)) {
				t.Errorf("stdout: %s", stdout)
			}
			if contains(stdout, "given head: none") == test.head {
				t.Errorf("the given head: %s", stdout)
			}
			plain(t, "stdout", stdout)
			path := filepath.Join(v.home, "export")
			run(t, v.bareEnv(), 0, "", "ledger", "export", "--output", path)
			if !test.inFile {
				return
			}
			// Anywhere: without the ledger, and without any home.
			stdout, _ = run(t, []string{"GORACE=atexit_sleep_ms=0"}, test.code, "", append([]string{"ledger", "verify", "--export", path}, given...)...)
			if !contains(stdout, test.problem) {
				t.Errorf("export: no %q in:\n%s", test.problem, stdout)
			}
			plain(t, "export", stdout)
		})
	}
}

func TestLedgerRebuild(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.history(t)
	v.tamper(t, `DELETE FROM operations WHERE outcome = 'failed'`)
	run(t, v.bareEnv(), 1, "", "ledger", "verify")
	stdout, _ := run(t, v.bareEnv(), 0, "", "ledger", "rebuild")
	if !contains(stdout, "made anew") || !contains(stdout, "result: as it was written") {
		t.Errorf("stdout: %s", stdout)
	}
	run(t, v.bareEnv(), 0, "", "ledger", "verify")
	v.tamper(t, `UPDATE entries SET kind = 'step' WHERE seq = 1`)
	stdout, stderr := run(t, v.bareEnv(), 1, "", "ledger", "rebuild")
	if contains(stdout, "made anew") || !contains(stderr, "entry 1") {
		t.Errorf("altered entries: %s%s", stdout, stderr)
	}
}

// Where there is no ledger, looking makes none.
func TestNoLedger(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for command, test := range map[string]struct {
		code   int
		stdout string
	}{
		"list":                     {0, "ID  STARTED  PRINCIPAL  TOOL  CONNECTION  TARGET  OUTCOME  ERROR\n"},
		"list --json":              {0, "{\n  \"operations\": [],\n  \"more\": false\n}\n"},
		"show x":                   {1, ""},
		"export":                   {0, ""},
		"export --output new-file": {0, ""},
		"verify":                   {0, "nothing to verify\n"},
		"verify --head " + strings.Repeat("0", 64): {1, ""},
		"rebuild":                {0, "nothing to rebuild\n"},
		"verify --export nofile": {1, ""},
		"list --limit 0":         {1, ""},
		"list --since yesterday": {1, ""},
		"list --outcome dead":    {1, ""},
		"lst":                    {1, ""},
		"list extra":             {1, ""},
		"--demo list":            {1, ""},
	} {
		stdout, stderr := run(t, v.bareEnv(), test.code, "", append([]string{"ledger"}, strings.Fields(command)...)...)
		if stdout != test.stdout || !contains(stderr, "tokenreeve: ") {
			t.Errorf("%s: stdout %q, stderr %q", command, stdout, stderr)
		}
	}
	if left := entries(t, v.home); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A ledger's file may have been written by anyone: nothing in it reaches a terminal.
func TestHostileLedger(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	l, ids := v.history(t)
	const hostile = `char(27) || ']0;owned' || char(7) || char(27) || '[31m' || char(155) || '1m' || char(8238) || char(13) || char(10) || 'outcome: done' || char(9) || char(0x200b)`
	id := "x' || " + hostile + " || '"
	v.tamper(t,
		`UPDATE operations SET id = '`+id+`', state = json_set(state, '$.id', '`+id+`', '$.reason', `+hostile+`, '$.principal', `+hostile+`,
			'$.targets[0].id', `+hostile+`, '$.error_code', `+hostile+`, '$.outcome', `+hostile+`, '$.client.name', `+hostile+`) WHERE id = '`+ids["failed"]+`'`,
		`UPDATE entries SET kind = `+hostile+`, hash = `+hostile+`, operation_id = '`+id+`',
			body = json_set(body, '$.step', `+hostile+`, '$.outcome', `+hostile+`) WHERE operation_id = '`+ids["failed"]+`'`,
		`UPDATE entries SET body = replace(body, 't-1', char(155) || '31m' || char(8238)) WHERE operation_id = '`+ids["group"]+`'`,
	)
	page, err := l.List(t.Context(), ledger.Query{})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(page.Operations, func(o ledger.Operation) bool { return strings.HasPrefix(o.ID, "x") })
	if at < 0 || !contains(page.Operations[at].Reason, "\x1b[31m") {
		t.Fatal("the ledger was not tampered with")
	}
	badID := page.Operations[at].ID
	for _, args := range [][]string{
		{"list"},
		{"list", "--json"},
		{"show", badID},
		{"show", badID, "--json"},
		{"show", ids["group"]},
		{"show", ids["group"], "--json"},
		{"export"},
		{"export", "--format", "csv"},
		{"verify"},
		{"rebuild"},
	} {
		p := start(t, v.bareEnv(), append([]string{"ledger"}, args...)...)
		_ = p.stdin.Close()
		receive(t, p.ended, "the end")
		name := fmt.Sprintf("%.20q", args)
		plain(t, name+": stdout", strings.ReplaceAll(p.out.String(), "\t", "")) // cells of CSV may hold tabs
		plain(t, name+": stderr", p.err.String())
		if len(p.out.String()+p.err.String()) == 0 {
			t.Errorf("%s says nothing", name)
		}
		if !slices.Contains(args, "csv") && regexp.MustCompile(`(?m)^outcome: done`).MatchString(p.out.String()) {
			t.Errorf("%s: a line was forged:\n%s", name, p.out)
		}
	}
}

func TestLedgerHelp(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	for command, want := range map[string][]string{
		"":        {"list", "show", "export", "verify", "rebuild"},
		"list":    {"--connection", "--tool", "--outcome", "--principal", "--since", "--limit", "--parent", "--json"},
		"show":    {"--json"},
		"export":  {"--format", "--output", "never overwritten"},
		"verify":  {"--head", "--export", "cut off at the end", "log line"},
		"rebuild": {"No entry is changed"},
	} {
		stdout, _ := run(t, v.bareEnv(), 0, "", strings.Fields("ledger "+command+" --help")...)
		for _, part := range want {
			if !contains(stdout, part) {
				t.Errorf("ledger %s --help lacks %q:\n%s", command, part, stdout)
			}
		}
	}
}
