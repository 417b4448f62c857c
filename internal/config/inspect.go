package config

import (
	"maps"
	"slices"
	"strings"
)

// Inspection is a configuration that may have problems.
type Inspection struct {
	// Config is what can be used of it. A connection is left out where it is not certain what is sent
	// where, and a sink where anything is wrong with it; what else has a problem is as it was read.
	Config Config
	// Problems is all that is wrong, as of Load.
	Problems []Problem
}

// Inspect reads the configuration as Load does, so that one with problems can be examined further.
// Nothing is to be served with it.
func Inspect(o Options) Inspection {
	l := newLoader(o)
	l.gather()
	i := Inspection{Problems: l.problems.list}
	if !i.IsSound("ca_file") {
		l.config.CAFile = ""
	}
	maps.DeleteFunc(l.config.Sinks, func(name string, _ Sink) bool { return !i.IsSound(below("sinks", name)) })
	maps.DeleteFunc(l.config.Connections, func(name string, _ Connection) bool { return !l.isUsable(i, name) })
	l.fillIn()
	i.Config = l.config
	return i
}

// isUsable reports whether it is certain which credential a connection sends to whom.
func (l *loader) isUsable(i Inspection, name string) bool {
	if l.config.File == "" { // it was made from the environment
		at := slices.IndexFunc(vendors(), func(v vendor) bool { return v.provider == name })
		v := vendors()[at]
		return i.IsSound(v.credential, v.userManagement, v.account, v.baseURL, v.credential+"_FILE", v.userManagement+"_FILE", v.account+"_FILE", v.baseURL+"_FILE")
	}
	place := below("connections", name)
	if slices.ContainsFunc(i.Problems, func(p Problem) bool { return p.Place == place }) {
		return false
	}
	for _, member := range []string{"provider", "base_url", "credential", "user_management_credential", "org_id", "account_id", "path_family", "page_size"} {
		if !i.IsSound(place + "." + member) {
			return false
		}
	}
	return true
}

// IsSound reports whether no problem lies at or below any of the places.
func (i Inspection) IsSound(places ...string) bool {
	return !slices.ContainsFunc(i.Problems, func(p Problem) bool {
		return slices.ContainsFunc(places, func(place string) bool {
			rest, ok := strings.CutPrefix(p.Place, place)
			return place != "" && ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
	})
}

// CanServe reports whether nothing is wrong with how HTTP is to be served.
func (i Inspection) CanServe() bool {
	flags := flagPlaces()
	return i.IsSound("serve", "--trusted-proxies", flags.listen, flags.transport, flags.cert, flags.key, flags.hosts, flags.origins, flags.metrics, flags.sessions, flags.calls)
}
