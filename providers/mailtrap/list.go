package mailtrap

import (
	"context"
	"iter"
	"strconv"

	"github.com/tokenreeve/tokenreeve/providers"
)

// pageRows is how many tokens a page holds. Mailtrap answers with all of them at
// once; the pages are cut here, as the answer arrives.
const pageRows = 500

// List yields all tokens that the credential may see; Mailtrap filters nothing.
// from is the number of rows to skip.
func (p *Provider) List(ctx context.Context, _ providers.Filter, from string) iter.Seq2[providers.Page, error] {
	return func(yield func(providers.Page, error) bool) {
		skip, err := parseOffset(from)
		if err != nil {
			yield(providers.Page{}, err)
			return
		}
		page := providers.Page{At: strconv.Itoa(skip), Limits: []providers.Limit{providers.VisibleToCredential}}
		row, fresh, now := 0, true, p.now()
		for r, err := range p.client.list(ctx) {
			if err == nil && r != nil {
				err = r.checkListed()
			}
			if err != nil {
				if len(page.Tokens) == 0 || yield(page, nil) {
					yield(providers.Page{}, err)
				}
				return
			}
			row++
			if r == nil || row <= skip {
				continue
			}
			page.Tokens = append(page.Tokens, p.token(r, now))
			if len(page.Tokens) < pageRows {
				continue
			}
			if !yield(page, nil) {
				return
			}
			page, fresh = providers.Page{At: strconv.Itoa(row)}, false
		}
		if fresh && skip > 0 && row <= skip {
			// A page stood here before: tokens were deleted, others may have moved past it.
			page.Limits = append(page.Limits, providers.MovedWhileReading)
		}
		if fresh || len(page.Tokens) > 0 {
			yield(page, nil)
		}
	}
}

// checkListed returns an error for a row without a valid id: nothing could name
// that token, and leaving it out would pass a partial list off as a full one.
func (r *record) checkListed() error {
	if checkTokenID(string(r.ID)) == nil {
		return nil
	}
	return &providers.Error{
		Provider: providerName, Code: providers.CodeBadAnswer, Status: 200,
		Message: "the list holds a token without a valid id: " + quote(string(r.ID)),
		Next:    "check the connection's base_url and any proxy in between, then try again",
	}
}

func parseOffset(from string) (int, error) {
	if from == "" {
		return 0, nil
	}
	skip, err := strconv.ParseUint(from, 10, 31)
	if err != nil || strconv.FormatUint(skip, 10) != from {
		return 0, invalid("%s is not a place in a listing of Mailtrap; valid is a number of rows in plain digits, or nothing to begin", quote(from))
	}
	return int(skip), nil
}
