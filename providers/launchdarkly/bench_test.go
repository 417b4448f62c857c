package launchdarkly_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	benchTokens = 20_000
	benchPage   = 100
	benchDelay  = 20 * time.Millisecond
)

// benchServer holds 20,000 tokens and takes 20 ms a page.
func benchServer(b *testing.B) string {
	b.Helper()
	pages := make([]string, benchTokens/benchPage)
	for i := range pages {
		items := make([]string, benchPage)
		for j := range items {
			items[j] = record(map[string]any{"_id": id(i*benchPage + j)})
		}
		links := `{}`
		if i < len(pages)-1 {
			links = `{"next":{"href":"/api/v2/tokens?limit=100"}}`
		}
		pages[i] = fmt.Sprintf(`{"items":[%s],"totalCount":%d,"_links":%s}`, strings.Join(items, ","), benchTokens, links)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		time.Sleep(benchDelay)
		switch r.URL.Path {
		case "/api/v2/tokens":
			offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
			_, _ = io.WriteString(w, pages[offset/benchPage])
		case "/api/v2/caller-identity":
			_, _ = io.WriteString(w, identityAnswer)
		default:
			_, _ = io.WriteString(w, record(map[string]any{"_id": ownID, "role": "admin"}))
		}
	}))
	b.Cleanup(server.Close)
	return server.URL
}

// BenchmarkList lists 20,000 tokens with a new provider, so with its identity.
func BenchmarkList(b *testing.B) {
	base := benchServer(b)
	options := transport.Options{UserAgent: "tokenreeve-test"}
	for b.Loop() {
		hc, err := transport.New(options)
		if err != nil {
			b.Fatal(err)
		}
		p, err := launchdarkly.New(hc, launchdarkly.Config{BaseURL: base, Credential: vendortest.Credential(credential)}, options)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for page, err := range p.List(b.Context(), providers.Filter{}, "") {
			if err != nil || page.Limits != nil {
				b.Fatal(err, page.Limits)
			}
			n += len(page.Tokens)
		}
		if n != benchTokens {
			b.Fatal(n)
		}
		hc.CloseIdleConnections()
	}
}

// BenchmarkBare fetches the same pages eight at a time and only decodes them.
func BenchmarkBare(b *testing.B) {
	base := benchServer(b)
	for b.Loop() {
		hc, err := transport.New(transport.Options{})
		if err != nil {
			b.Fatal(err)
		}
		offsets := make(chan int, benchTokens/benchPage)
		for offset := 0; offset < benchTokens; offset += benchPage {
			offsets <- offset
		}
		close(offsets)
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for offset := range offsets {
					if err := barePage(hc, base, offset); err != nil {
						b.Error(err)
					}
				}
			})
		}
		readers.Wait()
		hc.CloseIdleConnections()
	}
}

func barePage(hc *http.Client, base string, offset int) error {
	response, err := hc.Get(base + "/api/v2/tokens?showAll=true&limit=100&offset=" + strconv.Itoa(offset))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var page struct {
		Items []struct {
			ID     string `json:"_id"`
			Member struct {
				ID        string `json:"_id"`
				FirstName string `json:"firstName"`
				LastName  string `json:"lastName"`
				Email     string `json:"email"`
			} `json:"_member"`
			MemberID     string `json:"memberId"`
			Name         string `json:"name"`
			Description  string `json:"description"`
			Created      int64  `json:"creationDate"`
			LastUsed     int64  `json:"lastUsed"`
			Role         string `json:"role"`
			Token        string `json:"token"`
			ServiceToken bool   `json:"serviceToken"`
		} `json:"items"`
		TotalCount int `json:"totalCount"`
	}
	return json.Unmarshal(data, &page)
}
