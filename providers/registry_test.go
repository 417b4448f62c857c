package providers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// noCredential is a source that gives none.
type noCredential struct{}

func (noCredential) Read(context.Context) (secret.Secret, error) {
	return secret.Secret{}, errors.New("the variable is not set")
}

// house is a sandbox with its vendors' access.
func house(t *testing.T) sandbox.Access {
	t.Helper()
	box, err := sandbox.New(sandbox.Options{Seed: 1, Tokens: 30})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(box.Handler())
	t.Cleanup(server.Close)
	return box.Access(server.URL)
}

func launchDarkly(t *testing.T, name, base string, credential transport.Source) *providers.Connection {
	t.Helper()
	hc, err := transport.New(transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hc.CloseIdleConnections)
	p, err := launchdarkly.New(hc, launchdarkly.Config{BaseURL: base, Credential: credential}, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &providers.Connection{Name: name, Provider: p}
}

func mailTrap(t *testing.T, name string, credential transport.Source) *providers.Connection {
	t.Helper()
	p, err := mailtrap.New(nil, mailtrap.Config{AccountID: 1, Credential: credential}, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &providers.Connection{Name: name, Provider: p}
}

// TestOwn asks which tokens are credentials of connections to the same vendor.
func TestOwn(t *testing.T) {
	t.Parallel()
	access := house(t)
	base, source := access.LaunchDarkly.BaseURL, func(s string) transport.Source { return vendortest.Credential(s) }
	admin := launchDarkly(t, "admin", base, source(access.LaunchDarkly.Credential))
	writer := launchDarkly(t, "writer", base, source(access.LaunchDarkly.WriterCredential))
	refused := launchDarkly(t, "refused", base, source("api-00000000-0000-0000-0000-000000000000"))
	absent := launchDarkly(t, "absent", base, noCredential{})
	mailA, mailB := mailTrap(t, "mail-a", source("0123456789abcdef0123456789abcdef")), mailTrap(t, "mail-b", source("0123456789abcdef012345678900beef"))
	mailAbsent := mailTrap(t, "mail-absent", noCredential{})
	ids := map[string]string{}
	for _, c := range []*providers.Connection{admin, writer} {
		identity, err := c.Provider.Identity(t.Context())
		if err != nil || identity.OwnID == "" {
			t.Fatalf("identity %+v, error %v", identity, err)
		}
		ids[c.Name] = identity.OwnID
	}

	type connections []*providers.Connection
	for name, test := range map[string]struct {
		all  connections
		of   *providers.Connection
		own  []providers.Token
		not  []providers.Token
		code providers.Code
		says string
	}{
		"one": {
			all: connections{admin}, of: admin, own: []providers.Token{{ID: ids["admin"]}},
			not: []providers.Token{{ID: ids["writer"]}, {}, {ID: "x", LastFour: "cdef"}},
		},
		"two":                           {all: connections{admin, writer}, of: admin, own: []providers.Token{{ID: ids["admin"]}, {ID: ids["writer"]}}},
		"two, seen by the other":        {all: connections{admin, writer}, of: writer, own: []providers.Token{{ID: ids["admin"]}, {ID: ids["writer"]}}},
		"another vendor's is not asked": {all: connections{admin, mailAbsent}, of: admin, own: []providers.Token{{ID: ids["admin"]}}},
		"last four": {
			all: connections{mailA, mailB, admin}, of: mailA,
			own: []providers.Token{{ID: "7", LastFour: "cdef"}, {ID: "8", LastFour: "beef"}, {ID: "9"}}, // an end that is not told may be any
			not: []providers.Token{{ID: ids["admin"], LastFour: "1111"}, {ID: "9", LastFour: "0000"}},
		},
		"the other has no credential": {all: connections{admin, absent}, of: admin, code: providers.CodeCredential, says: "connection absent"},
		"it has no credential":        {all: connections{admin, absent}, of: absent, code: providers.CodeCredential, says: "connection absent"},
		"the other cannot be told":    {all: connections{admin, refused}, of: admin, code: providers.CodeCredentialRejected, says: "connection refused"},
		"it cannot be told":           {all: connections{refused}, of: refused, code: providers.CodeCredentialRejected, says: "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own, err := providers.NewRegistry(test.all...).Own(t.Context(), test.of)
			if providers.CodeOf(err) != test.code || test.code != "" && !strings.Contains(err.Error(), test.says) {
				t.Fatalf("error %v, want code %q and %q", err, test.code, test.says)
			}
			for _, token := range test.own {
				if !own.Has(&token) {
					t.Errorf("%+v is not taken for a credential", token)
				}
			}
			for _, token := range test.not {
				if own.Has(&token) {
					t.Errorf("%+v is taken for a credential", token)
				}
			}
		})
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	b, a := &providers.Connection{Name: "b"}, &providers.Connection{Name: "a"}
	given := []*providers.Connection{b, a}
	r := providers.NewRegistry(given...)
	given[0] = nil
	r.All()[0] = nil // a copy as well
	names := make([]string, 0, 2)
	for _, c := range r.All() {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if c, ok := r.Get("b"); !ok || c != b {
		t.Errorf("connection %v, %v, want b", c, ok)
	}
	if c, ok := r.Get("B"); ok {
		t.Errorf("connection %v, want none", c)
	}
}

// TestHealth checks what a call that ended so says of a connection that was
// refused before.
func TestHealth(t *testing.T) {
	t.Parallel()
	fail := func(code providers.Code) error { return &providers.Error{Code: code} }
	before := providers.Health{Seen: yesterday, Code: providers.CodeForbidden}
	for name, test := range map[string]struct {
		err  error
		want providers.Health
	}{
		"well":             {nil, providers.Health{Seen: now}},
		"not found":        {fail(providers.CodeNotFound), providers.Health{Seen: now}},
		"owner unknown":    {fail(providers.CodeOwnerUnknown), providers.Health{Seen: now}},
		"conflict":         {fail(providers.CodeConflict), providers.Health{Seen: now}},
		"rejected":         {fail(providers.CodeRejected), providers.Health{Seen: now}},
		"unavailable":      {fail(providers.CodeUnavailable), providers.Health{Seen: now, Code: providers.CodeUnavailable}},
		"credential":       {fail(providers.CodeCredential), providers.Health{Seen: now, Code: providers.CodeCredential}},
		"wrapped":          {fmt.Errorf("x: %w", fail(providers.CodeTimeout)), providers.Health{Seen: now, Code: providers.CodeTimeout}},
		"invalid argument": {fail(providers.CodeInvalidArgument), before},
		"refused":          {fail(providers.CodeRefused), before},
		"not offered":      {fail(providers.CodeNotOffered), before},
		"cancelled":        {fail(providers.CodeCancelled), before},
		"no vendor's":      {context.Canceled, before},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &providers.Connection{}
			if (c.Health() != providers.Health{}) {
				t.Errorf("health %+v before any call", c.Health())
			}
			c.Note(fail(before.Code), before.Seen)
			c.Note(test.err, now)
			if diff := cmp.Diff(test.want, c.Health()); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for limit, incomplete := range map[providers.Limit]bool{
		providers.ManagedAccountsOnly: false, providers.VisibleToCredential: false, providers.OwnCredentialUnknown: false,
		providers.ServiceAccountsMissing: true, providers.MovedWhileReading: true, providers.CredentialNotAdmin: true,
	} {
		if limit.Incomplete() != incomplete {
			t.Errorf("%s incomplete: %v, want %v", limit, limit.Incomplete(), incomplete)
		}
	}
}
