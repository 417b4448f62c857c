package sink

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrNotAccepted says that the operator's configuration keeps a delivery out of a sink.
var ErrNotAccepted = errors.New("not accepted")

// Accept says what a sink accepts. An empty list accepts all.
type Accept struct {
	// Prefixes are the beginnings that a key may have, for example "ci/". They are compared byte by
	// byte: "ci" accepts "ci/x" and "cinema" as well.
	Prefixes []string
	// Connections are the connections whose secrets may come here.
	Connections []string
	// Principals are those who may have secrets delivered here.
	Principals []string
}

// Faults returns what is wrong with a.
func (a Accept) Faults() []Fault {
	var faults []Fault
	for i, prefix := range a.Prefixes {
		if _, err := ParseKey(prefix + "x"); prefix == "" || err != nil {
			faults = append(faults, fault("accept.prefixes["+strconv.Itoa(i)+"]", "no key can begin so; valid is for example ci/"))
		}
	}
	for setting, names := range map[string][]string{"accept.connections": a.Connections, "accept.principals": a.Principals} {
		if slices.Contains(names, "") {
			faults = append(faults, fault(setting, "holds an empty name"))
		}
	}
	return faults
}

// Fault is what is wrong with one setting of a sink.
type Fault struct {
	// Setting is its name in config.json, below the sink's, for example argv.
	Setting string
	Err     error
}

func fault(setting, format string, args ...any) Fault {
	return Fault{setting, fmt.Errorf(format, args...)}
}

// joined is one error of all faults.
func joined(faults []Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = fmt.Errorf("%s: %w", f.Setting, f.Err)
	}
	return errors.Join(errs...)
}

// door is what all sinks have: a name, and what they accept.
type door struct {
	name   string
	accept Accept
}

func newDoor(name string, accept Accept) (door, error) {
	if err := checkSinkName(name); err != nil {
		return door{}, err
	}
	d := door{name, accept}
	return d, d.wrap(joined(accept.Faults()))
}

// admit says whether the sink takes a secret under key at all.
func (d door) admit(key Key, o Options) error {
	if key.String() == "" {
		return keyError("it is empty")
	}
	begins := func(prefix string) bool { return strings.HasPrefix(key.String(), prefix) }
	switch a := d.accept; {
	case len(a.Prefixes) > 0 && !slices.ContainsFunc(a.Prefixes, begins):
		return fmt.Errorf("the key %s is %w here; valid are keys that begin with %s", key, ErrNotAccepted, strings.Join(a.Prefixes, " or "))
	case len(a.Connections) > 0 && !slices.Contains(a.Connections, o.Connection):
		return fmt.Errorf("secrets of this connection are %w here; valid are those of %s", ErrNotAccepted, strings.Join(a.Connections, ", "))
	case len(a.Principals) > 0 && !slices.Contains(a.Principals, o.Principal):
		// Who else may is nobody's business.
		return fmt.Errorf("this caller is %w here; choose another sink, or ask the operator to add the caller to those that this sink accepts", ErrNotAccepted)
	}
	return nil
}

func (d door) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sink %s: %w", d.name, err)
}

// owns reports whether a delivery was made by the sink of this name.
func (d door) owns(delivery Delivery) error {
	if delivery.Sink == d.name {
		return nil
	}
	return errors.New("the delivery is not one of this sink; look it up under the sink that made it")
}
