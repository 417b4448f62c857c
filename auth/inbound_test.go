package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
)

// echo answers with the principal's name.
func echo(w http.ResponseWriter, r *http.Request) {
	p, ok := auth.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "%s %v", p.Name, ok)
}

func serve(t *testing.T, h http.Handler, host string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/sse", nil)
	r.Host = host
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String() // with the header, so that a test sees everything that leaves
}

func TestBearer(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("0123456789abcdef", 2)
	bearer, err := auth.NewBearer(token)
	if err != nil {
		t.Fatal(err)
	}
	h := auth.Middleware(bearer, auth.Options{})(http.HandlerFunc(echo))
	tests := []struct {
		name   string
		values []string
		ok     bool
	}{
		{"right", []string{"Bearer " + token}, true},
		{"lower case", []string{"bearer " + token}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"scheme only", []string{"Bearer "}, false},
		{"token only", []string{token}, false},
		{"other scheme", []string{"Basic " + token}, false},
		{"wrong", []string{"Bearer " + strings.Repeat("0123456789abcdee", 2)}, false},
		{"part", []string{"Bearer " + token[:31]}, false},
		{"longer", []string{"Bearer " + token + "0"}, false},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := serve(t, h, "localhost", http.Header{"Authorization": tt.values})
			text := body(t, r)
			if tt.ok {
				if r.StatusCode != http.StatusOK || !strings.HasSuffix(text, "bearer true") {
					t.Errorf("answer %s", text)
				}
				return
			}
			challenge := `Bearer realm="tokenreeve"`
			if tt.values != nil {
				challenge += `, error="invalid_token"`
			}
			if r.StatusCode != http.StatusUnauthorized || r.Header.Get("WWW-Authenticate") != challenge {
				t.Errorf("answer %s", text)
			}
			if strings.Contains(text, "0123456789") {
				t.Errorf("the answer holds what was presented: %s", text)
			}
		})
	}
}

func TestNewBearerRefusesWeakTokens(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "short-canary", strings.Repeat("x", 31), strings.Repeat("x", 31) + " ", strings.Repeat("x", 32) + "\n", strings.Repeat("é", 32)} {
		b, err := auth.NewBearer(token)
		if err == nil || b != nil {
			t.Errorf("NewBearer(%q) takes it", token)
		} else if token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("the error quotes the token: %v", err)
		}
	}
}

func TestRandomBearer(t *testing.T) {
	t.Parallel()
	bearer, token := auth.RandomBearer()
	_, other := auth.RandomBearer()
	if token == other || len(token) != 43 {
		t.Errorf("tokens have %d characters, equal: %v", len(token), token == other)
	}
	r := serve(t, auth.Middleware(bearer, auth.Options{})(http.HandlerFunc(echo)), "localhost", http.Header{"Authorization": {"Bearer " + token}})
	if r.StatusCode != http.StatusOK {
		t.Errorf("the token made is refused: %s", r.Status)
	}
	if shown := fmt.Sprintf("%v %+v %#v", bearer, bearer, bearer); strings.Contains(shown, token) {
		t.Error("a Bearer shows its token")
	}
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	if p, ok := auth.PrincipalFrom(t.Context()); ok {
		t.Errorf("a bare context carries %v", p)
	}
	p, ok := auth.PrincipalFrom(auth.WithPrincipal(t.Context(), auth.Local()))
	if !ok || p.Name != "local" || p.Method != auth.MethodStdio || !p.IsLocal || !p.IsAdmin {
		t.Errorf("PrincipalFrom = %v, %v", p, ok)
	}
}
