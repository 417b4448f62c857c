package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON, strict bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out whether configuration, credentials, sinks and state are as they should be",
		Long: "Looks at everything that the server needs, and says what was found and what to do: the\n" +
			"configuration, each connection's credentials (asking the vendor), the sinks, the state\n" +
			"directory or database with ledger and escrow and, where HTTP is served, the listener and its callers.\n" +
			"It takes the flags of serve, to look at what serve would do with them.\n\n" +
			"It only reads: no token is made or changed, and no state is made. Where a change would write,\n" +
			"it writes an empty file and removes it. All checks run at the same time.\n\n" +
			"The exit code is 1 where there is a problem, with --strict also where there is a warning.",
		Example: "  tokenreeve doctor\n" +
			"  tokenreeve doctor --listen :8443 --tls-cert tls.crt --tls-key tls.key --json",
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print the findings as JSON")
	flags.BoolVar(&strict, "strict", false, "fail on warnings too")
	flags.DurationVar(&limit, "timeout", 15*time.Second, "how long a check may take")
	readServeFlags := serveFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit <= 0 {
			return errors.New("--timeout must be above 0, for example 15s")
		}
		a.quiet()
		a.flags.serve = readServeFlags()
		d, release, err := a.newDoctor(cmd, limit)
		if err != nil {
			return err
		}
		defer release()
		rows := d.examine(cmd.Context())
		if err := cmd.Context().Err(); err != nil {
			return errInterrupted
		}
		return a.printFindings(rows, asJSON, strict)
	}
	return cmd
}

// row is what a check found.
type row struct {
	// Where is the setting, or the thing, that it is about.
	Where   string             `json:"where"`
	Verdict providers.Severity `json:"verdict"`
	Found   string             `json:"found"`
	Next    string             `json:"next,omitempty"` // what to do
}

func fine(where, format string, args ...any) row {
	return row{Where: where, Verdict: providers.Fine, Found: fmt.Sprintf(format, args...)}
}

func warning(where, found, next string) row {
	return row{where, providers.Warning, found, next}
}

func problem(where, found, next string) row {
	return row{where, providers.Trouble, found, next}
}

// doctor is what the checks look at.
type doctor struct {
	config.Inspection
	from   string // where the configuration came from
	http   bool   // HTTP is to be served
	client *http.Client
	// distrust is why client trusts the system's certificates alone, although ca_file names more.
	distrust error
	vendor   transport.Options
	limit    time.Duration // of a check
	log      *slog.Logger  // for parts that must have one; nobody reads it
}

// check looks at one thing, in its own time.
type check struct {
	where string
	run   func(ctx context.Context) []row
}

// newDoctor reads the configuration, or starts the demo's sandbox in its place.
func (a *app) newDoctor(cmd *cobra.Command, limit time.Duration) (*doctor, func(), error) {
	d := &doctor{limit: limit, log: slog.New(slog.DiscardHandler)}
	release := func() {}
	if a.flags.demo {
		s, err := a.setUpDemo(cmd)
		if err != nil {
			return nil, release, err
		}
		d.Config, d.from, release = s.config, "the embedded sandbox", s.close
	} else {
		d.Inspection = config.Inspect(a.configOptions(cmd))
		d.from = cmp.Or(d.Config.File, "no file: the environment's variables count")
	}
	d.http = a.listens(d.Config)
	d.vendor = transport.Options{UserAgent: "tokenreeve/" + a.version, Timeout: min(d.Config.Timeout, limit), Reserve: d.Config.RateReserve}
	if d.client, d.distrust = trusting(d.Config.CAFile); d.distrust != nil {
		var err error
		if d.client, err = trusting(""); err != nil {
			return nil, release, err
		}
	}
	return d, func() { d.client.CloseIdleConnections(); release() }, nil
}

// checks lists all of them, in the order of the table.
func (d *doctor) checks() []check {
	list := []check{{"configuration", d.configuration}}
	for _, name := range slices.Sorted(maps.Keys(d.Config.Connections)) {
		list = append(list, check{"connections." + name, func(ctx context.Context) []row { return d.connection(ctx, name) }})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Config.Sinks)) {
		list = append(list, check{"sinks." + name, func(ctx context.Context) []row { return d.sink(ctx, name) }})
	}
	list = append(list, check{"sinks", d.destinations})
	switch {
	case d.Config.State.IsShared():
		list = append(list, check{"state.postgres", d.database})
	case d.Config.StateDir != "":
		list = append(list, check{"state", d.state})
	}
	return append(list, check{"state.keys", d.keys}, check{"ledger", d.ledger}, check{"escrow", d.escrow}, check{"human_approval", d.approval},
		check{"serve", d.listener}, check{"auth", d.callers})
}

// lastWords is how long a check may go on once its time is up, to say so itself.
const lastWords = time.Second

// examine runs all checks at the same time and returns what they found, in their order. One that does
// not end in time, such as a file system that does not answer, is left to end with the process.
func (d *doctor) examine(ctx context.Context) []row {
	list := d.checks()
	found := make([]chan []row, len(list))
	for i, c := range list {
		found[i] = make(chan []row, 1)
		go func() {
			ctx, cancel := context.WithTimeout(ctx, d.limit)
			defer cancel()
			found[i] <- c.run(ctx)
		}()
	}
	var rows []row
	patience, cancel := context.WithTimeout(ctx, d.limit+lastWords)
	defer cancel()
	for i, c := range list {
		rows = append(rows, d.await(patience, c, found[i])...)
	}
	return rows
}

// await returns what a check found, or that it found nothing before ctx was done.
func (d *doctor) await(ctx context.Context, c check, found <-chan []row) []row {
	select {
	case rows := <-found:
		return rows
	case <-ctx.Done():
	}
	select { // of two that are ready, the one above takes either
	case rows := <-found:
		return rows
	default:
		return []row{problem(c.where, "there was no answer within "+d.limit.String(), "find out what does not answer; --timeout gives it longer")}
	}
}

// configuration tells what was read, and each problem in it.
func (d *doctor) configuration(context.Context) []row {
	var rows []row
	c := d.Config
	for _, p := range d.Problems {
		found, next, _ := strings.Cut(p.Text, "; ")
		rows = append(rows, problem(p.Place, found, next))
	}
	if d.distrust != nil {
		rows = append(rows, problem("ca_file", d.distrust.Error(), "name a PEM file that can be read, and that nobody but its owner or root can change: whoever can may pass for a vendor"))
	}
	if len(d.Problems) > 0 {
		return rows
	}
	rows = append(rows, secretFiles(c)...)
	if len(c.Connections) == 0 {
		return append(rows, problem("configuration", d.from+"; there is no connection", strings.Join(c.Setup, " ")))
	}
	found := fmt.Sprintf("%s; connections: %d", d.from, len(c.Connections))
	if c.ReadOnly {
		found += "; read only"
	}
	return append(rows, fine("configuration", "%s", found))
}

// secretFiles looks at the files that hold the credentials of the configuration.
func secretFiles(c config.Config) []row {
	files := map[string]string{"state.postgres": c.State.Postgres.File, "state.keys": c.State.Keys.File}
	for name, settings := range c.Connections {
		files["connections."+name+".credential"] = settings.Credential.File
		files["connections."+name+".user_management_credential"] = settings.UserManagementCredential.File
	}
	for name, settings := range c.Sinks {
		files["sinks."+name+".token"] = settings.Token.File
	}
	var rows []row
	for _, place := range slices.Sorted(maps.Keys(files)) {
		rows = append(rows, readable(place, files[place])...)
	}
	return rows
}

// readable warns of a file with a secret that everybody on this machine can read.
func readable(place, file string) []row {
	home, _ := os.UserHomeDir() // without one, no path begins with ~
	path, err := trustedfile.Absolute(file, home)
	if err != nil {
		return nil // whoever reads it says so
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 || os.PathSeparator != '/' {
		return nil
	}
	return []row{warning(place, "everybody on this machine can read "+path, fmt.Sprintf("run chmod o-r %q", path))}
}

// findings is the whole result, for scripts.
type findings struct {
	Verdict  providers.Severity `json:"verdict"` // the worst one
	OK       int                `json:"ok"`
	Warnings int                `json:"warnings"`
	Problems int                `json:"problems"`
	Checks   []row              `json:"checks"`
}

func findingsOf(rows []row) findings {
	f := findings{Verdict: providers.Fine, Checks: rows}
	for _, r := range rows {
		switch r.Verdict {
		case providers.Fine:
			f.OK++
		case providers.Warning:
			f.Warnings++
		default:
			f.Problems++
		}
	}
	switch {
	case f.Problems > 0:
		f.Verdict = providers.Trouble
	case f.Warnings > 0:
		f.Verdict = providers.Warning
	}
	return f
}

func (a *app) printFindings(rows []row, asJSON, strict bool) error {
	f := findingsOf(rows)
	print := f.print
	if asJSON {
		print = func(w io.Writer) error { return printJSON(w, f) }
	}
	if err := print(a.streams.Out); err != nil {
		return err
	}
	if f.Problems > 0 || strict && f.Warnings > 0 {
		return errToldAlready
	}
	return nil
}

// print shows the findings to people: what to do stands below what was found.
func (f findings) print(w io.Writer) error {
	w = plain(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VERDICT\tWHERE\tFOUND")
	for _, r := range f.Checks {
		fmt.Fprintln(t, tabbed([]string{string(r.Verdict), r.Where, r.Found}))
		if r.Next != "" {
			fmt.Fprintln(t, tabbed([]string{"", "", "-> " + r.Next}))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nok: %d, warnings: %d, problems: %d\n", f.OK, f.Warnings, f.Problems)
	return err
}
