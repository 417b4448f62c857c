package sink_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/sink"
)

func TestAccept(t *testing.T) {
	t.Parallel()
	accept := sink.Accept{Prefixes: []string{"ci/", "LD_"}, Connections: []string{"acme-ld"}, Principals: []string{"bot", "ann"}}
	f, err := sink.NewFile("files", private(t), accept)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, key, connection, principal, wants string }{
		{"accepted", "ci/a", "acme-ld", "bot", ""},
		{"other prefix", "LD_TOKEN", "acme-ld", "ann", ""},
		{"prefix", "cinema/a", "acme-ld", "bot", "the key cinema/a is not accepted here; valid are keys that begin with ci/ or LD_"},
		{"connection", "ci/b", "acme-mt", "bot", "secrets of this connection are not accepted here; valid are those of acme-ld"},
		{"no connection", "ci/b", "", "bot", "secrets of this connection"},
		{"principal", "ci/b", "acme-ld", "eve", "this caller is not accepted here"},
		{"no principal", "ci/b", "acme-ld", "", "this caller"},
	}
	for _, tt := range tests {
		o := sink.Options{Connection: tt.connection, Principal: tt.principal}
		key := parse(t, tt.key)
		checkErr := f.Check(t.Context(), key, o)
		_, deliverErr := f.Deliver(t.Context(), key, secret.New(canary), o)
		for _, err := range []error{checkErr, deliverErr} {
			if tt.wants == "" {
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			wantError(t, err, "sink files: "+tt.wants)
			if !errors.Is(err, sink.ErrNotAccepted) {
				t.Errorf("%s: %v is not ErrNotAccepted", tt.name, err)
			}
		}
	}
}

func TestAcceptIsValidated(t *testing.T) {
	t.Parallel()
	for name, accept := range map[string]sink.Accept{
		"empty prefix":     {Prefixes: []string{""}},
		"impossible":       {Prefixes: []string{"../"}},
		"pattern":          {Prefixes: []string{"ci/*"}},
		"empty connection": {Connections: []string{""}},
		"empty principal":  {Principals: []string{""}},
	} {
		if _, err := sink.NewFile("files", private(t), accept); err == nil {
			t.Errorf("%s must be refused", name)
		}
	}
}

// What exists already is told before the vendor is called, and never overwritten.
func TestFileKeyExists(t *testing.T) {
	t.Parallel()
	f, key, first := newFile(t, private(t)), parse(t, "ci/k"), secret.New(canary+"-1")
	for _, o := range []sink.Options{{}, {Successor: true}} {
		if err := f.Check(t.Context(), key, o); err != nil {
			t.Errorf("new key, %+v: %v", o, err)
		}
	}
	delivery, err := f.Deliver(t.Context(), key, first, sink.Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkErr := f.Check(t.Context(), key, sink.Options{})
	_, deliverErr := f.Deliver(t.Context(), key, secret.New(canary+"-2"), sink.Options{})
	for _, err := range []error{checkErr, deliverErr} {
		wantError(t, err, "sink files: the key exists already: ci/k; choose another key")
		if !errors.Is(err, sink.ErrKeyExists) {
			t.Errorf("%v is not ErrKeyExists", err)
		}
	}
	// A delivery that was repeated, as after a crash, is no second one.
	if again, err := f.Deliver(t.Context(), key, first, sink.Options{}); err != nil || again != delivery {
		t.Errorf("got %+v, %v, want %+v", again, err, delivery)
	}
	if err := f.Check(t.Context(), key, successor); err != nil {
		t.Error(err)
	}
	if next, err := f.Deliver(t.Context(), key, secret.New(canary+"-2"), successor); err != nil || next.Version != 2 {
		t.Errorf("got %+v, %v", next, err)
	}
}

// Of those who deliver to the same new key at once, one does.
func TestFileKeyExistsMeanwhile(t *testing.T) {
	t.Parallel()
	dir, key := private(t), parse(t, "k")
	var (
		wg        sync.WaitGroup
		delivered atomic.Int32
		begin     = make(chan struct{})
	)
	for i := range 24 {
		f := newFile(t, dir)
		wg.Go(func() {
			<-begin
			_, err := f.Deliver(context.Background(), key, secret.New(fmt.Sprintf("%s-%d", canary, i)), sink.Options{})
			if err == nil {
				delivered.Add(1)
			} else if !errors.Is(err, sink.ErrKeyExists) {
				t.Errorf("%v is not ErrKeyExists", err)
			}
		})
	}
	close(begin)
	wg.Wait()
	if got := tree(t, dir); delivered.Load() != 1 || len(got) != 1 {
		t.Errorf("%d deliveries made %v", delivered.Load(), got)
	}
}
