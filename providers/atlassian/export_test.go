package atlassian

import (
	"encoding/json"
	"net/url"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// What the wire client knows but no capability sends.
type (
	TokenQuery = tokenQuery
	DateQuery  = dateQuery
)

func (q tokenQuery) ListValues() url.Values  { return q.values() }
func (q tokenQuery) CountValues() url.Values { return q.filters() }

var NextCursor = nextCursor

// DecodeTokens maps data as a page, as a service account's list and as a user's.
func DecodeTokens(data []byte, now time.Time) []providers.Token {
	p := &Provider{now: func() time.Time { return now }}
	var tokens []providers.Token
	var page tokenPage
	if json.Unmarshal(data, &page) == nil && page.Data != nil {
		for _, record := range *page.Data {
			if record != nil {
				tokens = append(tokens, p.fromAccess(providers.KindUser, record))
			}
		}
	}
	var service []*accessToken
	if json.Unmarshal(data, &service) == nil {
		for _, record := range service {
			if record != nil {
				tokens = append(tokens, p.fromAccess(providers.KindService, record))
			}
		}
	}
	var user []*userToken
	if json.Unmarshal(data, &user) == nil {
		for _, record := range user {
			if record != nil {
				tokens = append(tokens, p.fromUsers("557057:one", record))
			}
		}
	}
	return tokens
}
