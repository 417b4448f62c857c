package launchdarkly_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

func asking(answer string, status int) vendortest.Exchange {
	return vendortest.Exchange{Method: "GET", Path: "/api/v2/caller-identity", Header: common(), Answer: answer, Status: status}
}

func TestIdentityIsKeptAndFailuresAreNot(t *testing.T) {
	t.Parallel()
	base := vendortest.Serve(t,
		asking(`{"code":"forbidden","message":"no"}`, http.StatusForbidden),
		asking(`{"authKind":"session"}`, 0),
		asking(identityAnswer, 0))
	p := provider(t, base)
	_, err := p.Identity(t.Context())
	wantCode(t, err, providers.CodeForbidden)
	_, err = p.Identity(t.Context())
	wantCode(t, err, providers.CodeVendorProtocol)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	want := providers.Identity{Host: u.Host, Account: "5d0000000000000000000001", OwnID: ownID}
	for range 3 {
		got, err := p.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
	}
}

// renewing gives another credential each time it is read.
type renewing struct{ reads atomic.Int64 }

func (r *renewing) Read(context.Context) (secret.Secret, error) {
	return secret.New("api-credential-number-" + strconv.FormatInt(r.reads.Add(1), 10)), nil
}

func TestIdentityFollowsTheCredential(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if refuse.CompareAndSwap(true, false) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/api/v2/caller-identity" {
			asked.Add(1)
			_, _ = w.Write([]byte(`{"tokenId":"6650f0c2a1b2c3d4e5f6000` + r.Header.Get("Authorization")[len("api-credential-number-"):] + `"}`))
			return
		}
		_, _ = w.Write([]byte(record(nil)))
	}))
	t.Cleanup(server.Close)
	p, err := launchdarkly.New(server.Client(), launchdarkly.Config{BaseURL: server.URL, Credential: &renewing{}}, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	own := func() string {
		identity, err := p.Identity(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return identity.OwnID
	}
	for range 2 {
		if got := own(); got != tokenID || asked.Load() != 1 {
			t.Errorf("own id %s, asked %d times", got, asked.Load())
		}
	}
	refuse.Store(true)
	if _, err := p.Get(t.Context(), providers.Ref{ID: tokenID}); err != nil { // renews the credential
		t.Fatal(err)
	}
	for range 2 {
		if got := own(); got != otherID || asked.Load() != 2 {
			t.Errorf("own id %s, asked %d times", got, asked.Load())
		}
	}
}

// A caller that gives up does not spoil the answer for those who wait with it.
func TestIdentityOfCallersWhoGiveUp(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(identityAnswer))
	}))
	t.Cleanup(server.Close)
	p := provider(t, server.URL)

	first, giveUp := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	callers.Go(func() {
		_, err := p.Identity(first)
		if providers.CodeOf(err) != providers.CodeCancelled {
			t.Errorf("the first caller: %v", err)
		}
	})
	<-arrived
	callers.Go(func() {
		if _, err := p.Identity(t.Context()); err != nil {
			t.Errorf("the second caller: %v", err)
		}
	})
	waiting, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Identity(waiting)
	wantCode(t, err, providers.CodeCancelled)
	giveUp()
	<-arrived // the second caller asks for itself
	close(release)
	callers.Wait()
}
