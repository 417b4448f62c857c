package auth

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// metadataPath is where a protected resource's metadata stands (RFC 9728, section 3).
const metadataPath = "/.well-known/oauth-protected-resource"

// Resource is this server as OAuth clients know it (RFC 9728). Its zero value is a server that takes
// no access tokens.
type Resource struct {
	// URL is the canonical URI of this server, for which access tokens are issued.
	URL string
	// Issuer is the OpenID provider, where clients get their tokens.
	Issuer string
	// Scopes are what clients are to ask for; none: what they like.
	Scopes []string
}

// IsZero reports whether the server takes no access tokens.
func (s Resource) IsZero() bool { return s.URL == "" }

// MetadataPaths returns the paths at which the metadata stands: that of RFC 9728, which ends in the
// path of the resource, and the one without it, where older clients look.
func (s Resource) MetadataPaths() []string {
	suffix := s.suffix()
	if suffix == "" {
		return []string{metadataPath}
	}
	return []string{metadataPath, metadataPath + suffix}
}

func (s Resource) suffix() string {
	u, err := url.Parse(s.URL)
	if err != nil || u.Path == "/" {
		return ""
	}
	return u.EscapedPath()
}

// MetadataURL returns the address of the metadata.
func (s Resource) MetadataURL() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + metadataPath + s.suffix()
}

// Metadata answers with the resource's metadata, to everybody, at the paths of MetadataPaths.
func (s Resource) Metadata() http.Handler {
	body, _ := json.Marshal(struct { // fails for no text
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported,omitempty"`
		Methods  []string `json:"bearer_methods_supported"`
		Name     string   `json:"resource_name"`
	}{s.URL, []string{s.Issuer}, s.Scopes, []string{"header"}, "tokenreeve"})
	body = append(body, '\n')
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refusal.Write(w, http.StatusMethodNotAllowed, "method_not_allowed", "use GET")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "public, max-age=300")
		_, _ = w.Write(body)
	})
}

// Forbid answers 403 to a known caller whose role is not enough (RFC 6750, section 3.1). Code and
// message are the program's own text.
func (s Resource) Forbid(w http.ResponseWriter, code, message string) {
	w.Header().Set("WWW-Authenticate", s.challenge("insufficient_scope"))
	refusal.Write(w, http.StatusForbidden, code, message)
}

// challenge returns the WWW-Authenticate of a refusal. Nothing in it comes from the request.
func (s Resource) challenge(code string) string {
	parts := []string{`Bearer realm="tokenreeve"`}
	if code != "" {
		parts = append(parts, `error="`+code+`"`)
	}
	if s.IsZero() {
		return strings.Join(parts, ", ")
	}
	if len(s.Scopes) > 0 {
		parts = append(parts, `scope="`+strings.Join(s.Scopes, " ")+`"`)
	}
	return strings.Join(append(parts, `resource_metadata="`+s.MetadataURL()+`"`), ", ")
}
