package vendortest

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/tokenreeve/tokenreeve/providers"
)

// HostileVendor is a vendor whose every answer is hostile: a test of a provider's boundary. It reads the
// types that the answers are decoded into, so a member that is added there is hostile too.
type HostileVendor struct {
	// Received are the types of answers, by name, and Sent the names of those that are only sent.
	Received map[string]reflect.Type
	Sent     []string
	// Likes names, for a type that decodes itself, the type whose JSON it takes.
	Likes map[reflect.Type]reflect.Type
	// Route tells the answer to a request: the name of its type, empty for no body.
	Route func(method, path string) (name string, status int)
	// Keep holds what an answer needs to be taken for one: ids, secrets, cursors. Paths begin with
	// the name of the type, as in "page.items[]._id"; nil leaves a member out.
	Keep map[string]any
	// Calls are all that the provider at a base URL can be asked. Each returns all it was given.
	Calls func(t *testing.T, base string) map[string]func(context.Context) (any, error)
	// Closed are the texts of a Token that no outside text reaches at this vendor, with the reason.
	Closed map[string]string
	// Raw are the texts in results, by their paths' ends, that are the vendor's own on purpose, with
	// the reason.
	Raw map[string]string
}

// round is one way to be hostile.
type round struct {
	planter
	insert string // after each word, into the JSON as it is
	raw    string // the body of every answer, in place of a planted one
	kind   string // its Content-Type
	status int    // of every answer, in place of the right one
}

// Run asks for everything, in every way to be hostile, and fails the test where a result or an error
// holds what it should not, a Token does not say that a text of it was cleaned, or a text of a Token is
// neither hostile in any answer nor closed.
func (v HostileVendor) Run(t *testing.T) {
	t.Helper()
	v.checkTypes(t)
	found := &findings{raw: v.Raw, words: map[string]bool{}}
	t.Run("answers", func(t *testing.T) {
		for name, r := range v.rounds() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				v.play(t, r, found)
			})
		}
	})
	for _, path := range textFields(reflect.TypeFor[providers.Token](), "") {
		reason, isClosed := v.Closed[path]
		switch reached := found.words[path]; {
		case found.isRaw(path): // looked at as it is kept
		case isClosed && reason == "":
			t.Errorf("Token.%s is closed without a reason", path)
		case isClosed && reached:
			t.Errorf("Token.%s is closed (%s), and a hostile text reached it", path, reason)
		case !isClosed && !reached:
			t.Errorf("no hostile text reached Token.%s: plant one, or close it with the reason", path)
		}
	}
}

// checkTypes fails the test where a type that stands for JSON is not listed.
func (v HostileVendor) checkTypes(t *testing.T) {
	t.Helper()
	known := map[string]bool{}
	for _, r := range v.Received {
		addNames(r, known)
	}
	for _, name := range taggedTypes(t) {
		if !known[name] && !slices.Contains(v.Sent, name) {
			t.Errorf("type %s stands for JSON: list it as received or sent", name)
		}
	}
}

// addNames adds the names of the types that a type is made of.
func addNames(t reflect.Type, known map[string]bool) {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		addNames(t.Elem(), known)
	case reflect.Struct:
		if known[t.Name()] {
			return
		}
		known[t.Name()] = t.Name() != ""
		for field := range t.Fields() {
			addNames(field.Type, known)
		}
	}
}

// taggedTypes returns the struct types of the package in the present directory that have JSON tags.
func taggedTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && slices.ContainsFunc(s.Fields.List, isTagged) {
				names = append(names, spec.Name.Name)
			}
			return true
		})
	}
	if len(names) == 0 {
		t.Fatal("the package has no types with JSON tags: the test proves nothing")
	}
	return names
}

func isTagged(f *ast.Field) bool { return f.Tag != nil && strings.Contains(f.Tag.Value, "json:") }

// rounds are all ways to be hostile.
func (v HostileVendor) rounds() map[string]round {
	all := map[string]round{}
	kinds := slices.Sorted(maps.Keys(Credentials()))
	with := func(n int, keep map[string]any) planter {
		return planter{credential: Credentials()[kinds[n%len(kinds)]], keep: keep, likes: v.Likes}
	}
	for n, kind := range kinds {
		all["with "+kind] = round{planter: with(n, v.Keep)}
	}
	for n, path := range slices.Sorted(maps.Keys(v.Keep)) {
		keep := maps.Clone(v.Keep)
		delete(keep, path)
		all["also "+path] = round{planter: with(n, keep)}
	}
	for n, path := range v.textPaths() {
		keep := maps.Clone(v.Keep)
		text := strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) {
				return -1 // JSON shows these as escapes only
			}
			return r
		}, HostileText(Word(path), Credentials()[kinds[n%len(kinds)]]))
		keep[path] = map[string]any{text: []any{text}}
		all["no text at "+path] = round{planter: with(n, keep)}
	}
	for n, body := range v.errorBodies() {
		for _, status := range []int{302, 400, 401, 403, 404, 409, 422} {
			all[fmt.Sprintf("error %d, status %d", n, status)] = round{raw: body, status: status, planter: with(n+status, nil)}
		}
		all[fmt.Sprintf("error %d, status 200", n)] = round{raw: body, planter: with(n, nil)}
	}
	text := HostileText(Word("body"), Credentials()[kinds[0]])
	all["rate limit"] = round{raw: v.errorBodies()[0], status: 429}
	all["server fails"] = round{raw: v.errorBodies()[0], status: 500}
	all["no JSON"] = round{raw: text}
	all["plain text"] = round{raw: text, kind: "text/plain", status: 403}
	all["half"] = round{raw: `[{"name":"` + Word("half")}
	all["lone surrogates"] = round{planter: with(0, v.Keep), insert: `\ud800x\udfff\udc00\ud800`}
	all["not UTF-8"] = round{planter: with(1, v.Keep), insert: "\xff\xc0\xaf\xed\xa0\x80\x9b31m"}
	for _, path := range v.textPaths() {
		all["only "+path] = round{planter: planter{keep: v.Keep, likes: v.Likes, only: path}}
	}
	all["very long"] = round{planter: with(2, v.Keep), insert: strings.Repeat("long ", 20_000)}
	return all
}

// textPaths are the paths of all texts in answers that are not kept.
func (v HostileVendor) textPaths() []string {
	var paths []string
	for name, t := range v.Received {
		Strings(planter{keep: v.Keep, likes: v.Likes}.value(name, t), func(path, text string) {
			if len(Words(text)) == 1 && !strings.Contains(path, "hostile") {
				paths = append(paths, join(name, path))
			}
		})
	}
	slices.Sort(paths)
	return paths
}

// errorBodies are the shapes of errors that the vendors have, and a wild one.
func (v HostileVendor) errorBodies() []string {
	text := func(place string) string { return HostileText(Word(place), Credentials()["LaunchDarkly token"]) }
	var bodies []string
	for _, body := range []any{
		map[string]any{"code": text("code"), "message": text("message")},
		map[string]any{"error": text("error")},
		map[string]any{"errors": text("errors")},
		map[string]any{"errors": []any{text("errors[]"), text("another")}},
		map[string]any{"errors": map[string]any{"base": []any{text("base")}, text("key"): map[string]any{text("inner"): text("value")}}},
		map[string]any{"errors": []any{map[string]any{"code": text("code"), "title": text("title"), "detail": text("detail")}}},
		map[string]any{
			"key": text("key"), "message": text("message"), "context": map[string]any{
				"reason":          map[string]any{"key": text("reason")},
				"fieldViolations": []any{map[string]any{"field": text("field"), "violations": []any{map[string]any{"key": text("violation")}}}},
			},
		},
		map[string]any{text("key"): text("value"), "code": 7, "error": map[string]any{text("key"): text("value")}},
	} {
		data, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		bodies = append(bodies, string(data))
	}
	return bodies
}

// play is one round.
func (v HostileVendor) play(t *testing.T, r round, found *findings) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		name, status := v.Route(request.Method, request.URL.Path)
		body := r.raw
		if body == "" && name != "" {
			body = regexp.MustCompile(`zq[a-z]{6}zq`).ReplaceAllString(r.json(name, v.Received[name]), "${0}"+r.insert)
		}
		if r.status != 0 {
			status = r.status
		}
		r.answer(w, status, body)
	}))
	defer server.Close()
	var calls sync.WaitGroup
	for name, call := range v.Calls(t, server.URL) {
		calls.Go(func() {
			ctx, trace := providers.WithTrace(t.Context())
			result, err := call(ctx)
			found.look(t, name, result)
			found.look(t, name+", trace", trace.RequestID)
			if err != nil {
				found.look(t, name, err)
			}
		})
	}
	calls.Wait()
}

// answer writes headers that are as hostile as headers can be: with control characters they are none.
func (r round) answer(w http.ResponseWriter, status int, body string) {
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, HostileText(Word("header"), r.credential))
	for _, name := range []string{
		"X-Request-Id", "X-Ratelimit-Remaining", "X-Ratelimit-Reset", "X-Ratelimit-Limit", "X-Ratelimit-Global-Remaining", "X-Ratelimit-Route-Remaining",
		"X-Ratelimit-Auth-Token-Remaining", "Location", "Date", "Server", "X-Hostile", "Etag", "Link", "Www-Authenticate",
	} {
		w.Header()[name] = []string{text}
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "86400")
	}
	w.Header().Set("Content-Type", "application/json")
	if r.kind != "" {
		w.Header().Set("Content-Type", r.kind)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// findings is what was seen in results.
type findings struct {
	raw map[string]string

	mu    sync.Mutex
	words map[string]bool // the texts of Tokens that a hostile text reached
}

// look fails the test where a value holds what it should not.
func (f *findings) look(t *testing.T, where string, value any) {
	t.Helper()
	Strings(value, func(path, text string) {
		if danger := Danger(text); danger != "" && !f.isRaw(path) {
			t.Errorf("%s: %s holds %s: %+q", where, path, danger, text)
		}
	})
	eachToken(reflect.ValueOf(value), func(token providers.Token) { f.token(t, where, token) })
}

func (f *findings) isRaw(path string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(f.raw)), func(end string) bool { return strings.HasSuffix(path, end) })
}

// token notes which texts were reached, and wants those flagged that were cleaned.
func (f *findings) token(t *testing.T, where string, token providers.Token) {
	t.Helper()
	Strings(token, func(path, text string) {
		if len(Words(text)) == 0 {
			return
		}
		f.mu.Lock()
		f.words[path] = true
		f.mu.Unlock()
		if path == "Name" && !token.NameAltered || path != "Name" && !token.TextAltered && !f.isRaw(path) {
			t.Errorf("%s: that %s was cleaned is not flagged: %+q", where, path, text)
		}
	})
	kept, err := json.Marshal(token)
	if danger := Danger(string(kept)); err != nil || danger != "" {
		t.Errorf("%s: what is kept of a token holds %s: %s, %v", where, danger, kept, err)
	}
}

// eachToken visits every Token in a value.
func eachToken(v reflect.Value, visit func(providers.Token)) {
	if !v.IsValid() {
		return
	}
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case providers.Token:
			visit(x)
			return
		case *providers.Error:
			if x != nil && x.Lost != nil {
				eachToken(reflect.ValueOf(*x.Lost), visit)
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		eachToken(v.Elem(), visit)
	case reflect.Struct:
		for i := range v.NumField() {
			eachToken(v.Field(i), visit)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			eachToken(v.Index(i), visit)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			eachToken(v.MapIndex(key), visit)
		}
	}
}

// Pages returns the pages of a listing, up to its end or an error.
func Pages(listing iter.Seq2[providers.Page, error]) (pages []providers.Page, err error) {
	for page, err := range listing {
		if err != nil {
			return pages, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}
