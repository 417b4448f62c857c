package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

const subscriptions = 40

// A subscription is acknowledged before it is answered, over each transport (for stdio see
// internal/e2e: the library has one session of it in each process). The lists of this server do not
// change, so the answer comes at once.
func TestSubscriptionIsAcknowledgedFirst(t *testing.T) {
	t.Parallel()
	t.Run("event stream", func(t *testing.T) {
		t.Parallel()
		s := startWebWith(t, newRealSlow(t), server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true}, server.HTTPOptions{})
		events, messages, _ := s.open(t)
		for id := range subscriptions {
			body, _ := modernly("subscriptions/listen", "", id)
			if got := s.do(t, http.MethodPost, messages, body, nil).StatusCode; got != http.StatusAccepted {
				t.Fatalf("message: status %d", got)
			}
		}
		s.finish(t)
		events.await(t, cleanEnd)
		wantAcknowledged(t, events.String(), subscriptions)
	})
	t.Run("Streamable HTTP", func(t *testing.T) {
		t.Parallel()
		s := startWebWith(t, newRealSlow(t), server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true}, server.HTTPOptions{})
		for range subscriptions {
			body, headers := modernly("subscriptions/listen", "", 0)
			answer, err := io.ReadAll(s.do(t, http.MethodPost, "/mcp", body, headers).Body)
			if err != nil {
				t.Fatal(err)
			}
			wantAcknowledged(t, string(answer), 1)
		}
	})
}

// newRealSlow returns the real server where a test holds none of its tools.
func newRealSlow(t *testing.T) *slow {
	t.Helper()
	s, env := newServer(t)
	return &slow{mcp: s, work: env.Work}
}

func wantAcknowledged(t *testing.T, out string, count int) {
	t.Helper()
	for id := range count {
		told := strings.Index(out, fmt.Sprintf(`"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%d}`, id))
		answered := strings.Index(out, fmt.Sprintf(`"id":%d,"result"`, id))
		if told < 0 || answered < told {
			t.Fatalf("subscription %d: acknowledged at %d, answered at %d of:\n%s", id, told, answered, out)
		}
	}
}
