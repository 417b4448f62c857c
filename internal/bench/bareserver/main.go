// Command bareserver is the measure of the benchmarks: an MCP server made with
// the same library, on stdio, or over HTTP where BARE_LISTEN is an address, and
// nothing else. Its one tool is trivial; with BARE_VENDOR set it is a list_tokens
// that makes one request to LaunchDarkly's API, decodes the rows and returns them,
// and a get_token that returns one token as tokenreeve does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	rows    = 50
	workers = 64 // as many as tokenreeve has
)

func main() {
	s := server.NewMCPServer("bareserver", "1", server.WithToolCapabilities(false))
	if vendor := os.Getenv("BARE_VENDOR"); vendor != "" {
		l := lister{base: vendor, credential: os.Getenv("BARE_CREDENTIAL"), client: &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: workers},
		}}
		s.AddTool(mcp.NewTool("list_tokens", mcp.WithDescription("Lists tokens.")), l.list)
		s.AddTool(mcp.NewTool("get_token", mcp.WithDescription("Returns one token."), mcp.WithString("token_id")), l.get)
	} else {
		s.AddTool(mcp.NewTool("ping", mcp.WithDescription("Answers.")), ping)
	}
	err := error(nil)
	if address := os.Getenv("BARE_LISTEN"); address != "" {
		err = serveHTTP(s, address)
	} else {
		err = server.ServeStdio(s, server.WithWorkerPoolSize(workers))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveHTTP serves both transports of the library as they are.
func serveHTTP(s *server.MCPServer, address string) error {
	listener, err := net.Listen("tcp", address) //nolint:noctx // ends with the process
	if err != nil {
		return err
	}
	events := server.NewSSEServer(s, server.WithKeepAliveInterval(20*time.Second))
	mux := http.NewServeMux()
	mux.Handle("/mcp", server.NewStreamableHTTPServer(s))
	mux.Handle("/sse", events.SSEHandler())
	mux.Handle("/message", events.MessageHandler())
	fmt.Fprintf(os.Stderr, "bareserver serves http://%s/mcp\n", listener.Addr())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

func ping(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	return mcp.NewToolResultText("pong"), nil
}

// record is what a row needs of the vendor's token.
type record struct {
	ID     string `json:"_id"`
	Member struct {
		ID        string `json:"_id"`
		FirstName string `json:"firstName"`
		LastName  string `json:"lastName"`
		Email     string `json:"email"`
	} `json:"_member"`
	MemberID      string          `json:"memberId"`
	Name          string          `json:"name"`
	Description   string          `json:"description"`
	Created       int64           `json:"creationDate"`
	Modified      int64           `json:"lastModified"`
	LastUsed      int64           `json:"lastUsed"`
	Role          string          `json:"role"`
	CustomRoleIDs []string        `json:"customRoleIds"`
	InlineRole    json.RawMessage `json:"inlineRole"`
	Token         string          `json:"token"`
	ServiceToken  bool            `json:"serviceToken"`
	APIVersion    int             `json:"defaultApiVersion"`
}

// row holds the members of tokenreeve's concise row.
type row struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Owner    string `json:"owner,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Status   string `json:"status,omitempty"`
	Access   string `json:"access,omitempty"`
	Created  string `json:"created,omitempty"`
	LastUsed string `json:"last_used,omitempty"`
	Expires  string `json:"expires,omitempty"`
}

func (r *record) row() row {
	out := row{
		ID: r.ID, Name: r.Name, Owner: r.Member.Email, Kind: "user", Status: "active", Access: r.Role,
		Created: date(r.Created, time.DateOnly), LastUsed: date(r.LastUsed, time.DateOnly), Expires: "never",
	}
	if r.ServiceToken {
		out.Kind = "service"
	}
	return out
}

// fullRow holds the members of what tokenreeve's get_token answers.
type fullRow struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Owner       string   `json:"owner,omitempty"`
	OwnerID     string   `json:"owner_id,omitempty"`
	OwnerName   string   `json:"owner_name,omitempty"`
	Kind        string   `json:"kind,omitempty"`
	Status      string   `json:"status,omitempty"`
	Access      string   `json:"access,omitempty"`
	Created     string   `json:"created,omitempty"`
	LastUsed    string   `json:"last_used,omitempty"`
	Expires     string   `json:"expires,omitempty"`
	LastFour    string   `json:"last_four,omitempty"`
	Description string   `json:"description,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
	APIVersion  int      `json:"default_api_version,omitempty"`
	Modified    string   `json:"modified,omitempty"`
}

func (r *record) fullRow() fullRow {
	concise := r.row()
	return fullRow{
		ID: r.ID, Name: r.Name, Owner: concise.Owner, OwnerID: r.MemberID, OwnerName: r.Member.FirstName + " " + r.Member.LastName,
		Kind: concise.Kind, Status: concise.Status, Access: r.Role,
		Created: date(r.Created, time.RFC3339), LastUsed: date(r.LastUsed, time.RFC3339), Expires: "never", LastFour: r.Token[max(0, len(r.Token)-4):],
		Description: r.Description, Scopes: []string{"role:" + r.Role}, APIVersion: r.APIVersion, Modified: date(r.Modified, time.RFC3339),
	}
}

func date(milli int64, layout string) string {
	if milli == 0 {
		return "never"
	}
	return time.UnixMilli(milli).UTC().Format(layout)
}

type lister struct {
	base, credential string
	client           *http.Client
}

func (l *lister) list(ctx context.Context, _ mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var page struct {
		Items      []record `json:"items"`
		TotalCount int      `json:"totalCount"`
	}
	if err := l.read(ctx, "/api/v2/tokens?limit=100&offset=0&showAll=true", &page); err != nil {
		return nil, err
	}
	var out struct {
		Tokens []row `json:"tokens"`
	}
	for i := range page.Items[:min(rows, len(page.Items))] {
		out.Tokens = append(out.Tokens, page.Items[i].row())
	}
	return structured(out)
}

func (l *lister) get(ctx context.Context, request mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	var r record
	if err := l.read(ctx, "/api/v2/tokens/"+request.GetString("token_id", ""), &r); err != nil {
		return nil, err
	}
	var out struct {
		Token fullRow `json:"token"`
	}
	out.Token = r.fullRow()
	return structured(out)
}

// structured returns a result as structured content and as text.
func structured(out any) (*mcp.CallToolResult, error) {
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return mcp.NewToolResultStructured(out, string(text)), nil
}

func (l *lister) read(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.base+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", l.credential)
	request.Header.Set("Ld-Api-Version", "20240415")
	response, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
