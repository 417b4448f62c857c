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
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

const nextSink = "mend it, or name another sink; until then new secrets that go there stay in escrow or are refused"

// sink tries a sink as a change does before the vendor is called.
func (d *doctor) sink(ctx context.Context, name string) []row {
	s, place := d.Config.Sinks[name], "sinks."+name
	rows := d.local(place, s)
	if s.Type == config.FileSink {
		return append(rows, writable(place, s.Directory, nextSink))
	}
	made, err := sinkOf(name, s)
	if err != nil {
		return []row{problem(place, err.Error(), "correct the sink's settings")}
	}
	key, err := sink.ParseKey(first(s.Accept.Prefixes) + "doctor")
	if err != nil {
		return []row{problem(place, err.Error(), "correct accept.prefixes")}
	}
	err = made.Check(ctx, key, sink.Options{Connection: first(s.Accept.Connections), Principal: first(s.Accept.Principals)})
	if err != nil && !errors.Is(err, sink.ErrKeyExists) {
		return append(rows, problem(place, err.Error(), nextSink))
	}
	return append(rows, fine(place, "%s", map[string]string{
		config.KeyringSink: "the keyring can be read; whether it can be written shows with a secret only",
		config.ExecSink:    "the command exists; it was not run",
		config.VaultSink:   "the vault answers, and its token may write",
	}[s.Type]))
}

// local warns of a sink that is on this machine where several servers share the rest.
func (d *doctor) local(place string, s config.Sink) []row {
	if !d.Config.State.IsShared() || !isLocal(s) {
		return nil
	}
	return []row{warning(place, "it keeps secrets on this machine, and several servers share the state", "give all of them the same directory, or use a sink of type vault or exec")}
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// writable tries a private directory by writing a file and removing it. One that is missing is not
// made: then the directory that it would be made in is looked at.
func writable(place, directory, next string) row {
	dir, err := privatefile.OpenDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(place, directory, next)
	}
	if err != nil {
		return problem(place, err.Error(), next)
	}
	defer dir.Close()
	if err := dir.Probe(); err != nil {
		return problem(place, err.Error(), next)
	}
	return fine(place, "%s can be written", directory)
}

// missing finds out whether a directory can be made, by making and removing another one beside it.
func missing(place, directory, next string) row {
	above := filepath.Dir(directory)
	_, err := os.Stat(above)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(above) != above {
		above = filepath.Dir(above)
		_, err = os.Stat(above)
	}
	if err == nil {
		var probe string
		if probe, err = os.MkdirTemp(above, ".tokenreeve-"); err == nil {
			err = os.Remove(probe)
		}
	}
	if err != nil {
		return problem(place, directory+" is missing and cannot be made: "+err.Error(), next)
	}
	return fine(place, "%s is not made yet; it can be", directory)
}

// destinations tells which connections have nowhere to put a new secret, unless a call names a place.
func (d *doctor) destinations(context.Context) []row {
	var rows []row
	names := slices.Sorted(maps.Keys(d.Config.Sinks))
	for _, name := range slices.Sorted(maps.Keys(d.Config.Connections)) {
		c := d.Config.Connections[name]
		if !d.mints(name) {
			continue
		}
		place := "connections." + name + ".sink"
		s, isThere := d.Config.Sinks[c.Sink]
		switch {
		case !d.IsSound(place): // it was said
		case len(names) == 0:
			rows = append(rows, problem(place, "new secrets have nowhere to go: no sink can be used", `configure one under "sinks"; or take mint and rotate out of "allow"`))
		case c.Sink == "":
			rows = append(rows, warning(place, "there is no default sink: each call that makes a secret must give deliver_to", "name one of "+strings.Join(names, ", ")))
		case !isThere:
			rows = append(rows, problem(place, "the sink "+c.Sink+" cannot be used", "correct its settings"))
		default:
			rows = append(rows, d.judgeDefault(place, name, c.Sink, s)...)
		}
	}
	return rows
}

// judgeDefault says why a sink does not take what goes to it where a call names no place: the key is
// CONNECTION/TOKEN_ID then.
func (d *doctor) judgeDefault(place, connection, name string, s config.Sink) []row {
	begins := func(prefix string) bool {
		return strings.HasPrefix(connection+"/", prefix) || strings.HasPrefix(prefix, connection+"/")
	}
	a := s.Accept
	switch {
	case len(a.Connections) > 0 && !slices.Contains(a.Connections, connection):
		return []row{problem(place, "the sink "+name+" does not accept secrets of this connection", "add it to sinks."+name+".accept.connections, or name another sink")}
	case !d.http && len(a.Principals) > 0 && !slices.Contains(a.Principals, "local"):
		return []row{problem(place, "the sink "+name+" does not accept secrets for the caller local, who is the only one over stdio", "add local to sinks."+name+".accept.principals, or name another sink")}
	case len(a.Prefixes) > 0 && !slices.ContainsFunc(a.Prefixes, begins):
		return []row{warning(place, fmt.Sprintf("the sink %s takes no key that begins with %s/: each call that makes a secret must give deliver_to", name, connection),
			"add "+connection+"/ to sinks."+name+".accept.prefixes, or tell callers which keys to use")}
	case s.Format == config.Dotenv:
		return []row{warning(place, "the sink "+name+" keeps variables, which no token id names: each call that makes a secret must give deliver_to", "tell callers which FILE/VARIABLE to use, or name another sink")}
	}
	return []row{fine(place, "new secrets go to %s", name)}
}
