package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/tools"
)

// traceparent names the trace that a call belongs to, in the request's _meta (SEP-414) and in its
// headers (W3C Trace Context).
const traceparent = "traceparent"

// measureCalls measures each call of a tool, also one that is refused before the tool sees it. Its
// parent is the caller's span: what _meta names, which the caller's own MCP client wrote, before what a
// header names, which may be a proxy's.
func measureCalls(t *telemetry.Telemetry, offered []tools.Tool) mcpserver.ToolHandlerMiddleware {
	classes := map[string]string{unknownTool: ""}
	for _, tool := range offered {
		classes[tool.Name] = string(tool.Class)
	}
	return func(next mcpserver.ToolHandlerFunc) mcpserver.ToolHandlerFunc {
		return func(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			name := request.Params.Name
			class, ok := classes[name]
			if !ok { // what answerUnknown missed: the name is the caller's
				name = unknownTool
			}
			principal, ok := auth.PrincipalFrom(ctx)
			if !ok {
				principal = auth.Local()
			}
			ctx, call := t.BeginCall(ctx, name, class, principal.Name, parents(request)...)
			defer call.End()
			return next(ctx, request)
		}
	}
}

func parents(request mcp.CallToolRequest) []string {
	var named []string
	if request.Params.Meta != nil {
		if parent, ok := request.Params.Meta.AdditionalFields[traceparent].(string); ok {
			named = append(named, parent)
		}
	}
	if parent := request.Header.Get(traceparent); parent != "" {
		named = append(named, parent)
	}
	return named
}

// visit is what becomes known of an HTTP request on its way in.
type visit struct {
	route     string // as it stands in Routes; empty: none
	principal auth.Principal
}

type visitKey struct{}

func visitOf(ctx context.Context) *visit {
	v, ok := ctx.Value(visitKey{}).(*visit)
	if !ok {
		return &visit{}
	}
	return v
}

// noteRoute notes the route of a request, for its line in the log and for the metrics.
func noteRoute(path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visitOf(r.Context()).route = path
		next.ServeHTTP(w, r)
	})
}

// isWatching reports a route that is asked every few seconds by whoever watches the server.
func isWatching(route string) bool {
	return slices.Contains([]string{"/healthz", "/readyz", metricsPath}, route)
}

// noteRequest counts a request that was answered, and writes its line to the log. Nothing in it is the
// client's own text: the method and the route are among ours, and the session's id, which opens the
// session, is a digest.
func (v *service) noteRequest(r *http.Request, seen *visit, began time.Time, out *patient) {
	route, method, status := orOther(seen.route), methodOf(r), out.status
	if status == 0 {
		status = http.StatusOK
	}
	v.options.Telemetry.RequestEnded(method, route, status)
	level := slog.LevelInfo
	if isWatching(seen.route) && status < 400 {
		level = slog.LevelDebug
	}
	attributes := append(make([]slog.Attr, 0, 9),
		slog.String("method", method), slog.String("route", route), slog.Int("status", status), slog.Int64("bytes", out.bytes),
		slog.String("address", v.options.Address(r)),
	)
	if seen.principal.Name != "" {
		attributes = append(attributes, slog.String("principal", seen.principal.Name), slog.String("auth", seen.principal.Method))
	}
	if session := sessionDigest(r, out); session != "" {
		attributes = append(attributes, slog.String("session", session))
	}
	v.log.LogAttrs(context.Background(), level, "request", append(attributes, telemetry.Took(time.Since(began)))...)
}

const other = "other"

func orOther(route string) string {
	if route == "" {
		return other
	}
	return route
}

func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return other
	}
}

// sessionDigest tells sessions apart in the log without opening them.
func sessionDigest(r *http.Request, out *patient) string {
	id := r.Header.Get(mcp.HeaderSessionID)
	if id == "" {
		id = r.URL.Query().Get("sessionId")
	}
	if id == "" {
		id = out.Header().Get(mcp.HeaderSessionID)
	}
	if id == "" {
		return ""
	}
	digest := sha256.Sum256([]byte(id))
	return hex.EncodeToString(digest[:4])
}

// peerOf is the address of the connection.
func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
