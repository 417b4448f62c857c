package mailtrap

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

const (
	maxResources = 50 // resources that are shown
	maxNamed     = 10 // ids that an error names
)

// Resource is something that permissions can be given on. Its texts are cleaned.
type Resource struct {
	Type        string // the current word where it is known, else the vendor's
	ID          string
	Name        string
	AccessLevel string // the credential's own: viewer, admin, … or a number
	Altered     bool   // cleaning changed one of them
}

// Resources returns the first 50 resources that permissions can name, parents
// before what is below them, and how many there are. The vendor's tree holds
// other kinds too, such as billing.
func (p *Provider) Resources(ctx context.Context) (first []Resource, total int, err error) {
	nodes, err := p.client.tree(ctx)
	if err != nil {
		return nil, 0, err
	}
	walk(nodes, func(n *node) {
		if _, grantable := currentWord(string(n.Type)); !grantable {
			return
		}
		if total++; total <= maxResources {
			first = append(first, n.resource())
		}
	})
	return first, total, nil
}

// walk visits each node before the ones below it.
func walk(nodes []*node, visit func(*node)) {
	for _, n := range nodes {
		if n == nil {
			continue
		}
		visit(n)
		walk(n.Resources, visit)
	}
}

func (n *node) resource() Resource {
	var altered [3]bool
	r := Resource{Type: n.word()}
	r.Name, altered[0] = sanitize.Name(string(n.Name))
	r.ID, altered[1] = sanitize.Name(string(n.ID))
	r.AccessLevel, altered[2] = sanitize.Name(levelWord(n.Level))
	r.Altered = slices.Contains(altered[:], true)
	return r
}

// word returns the node's type in its current word.
func (n *node) word() string {
	if current, ok := currentWord(string(n.Type)); ok {
		return current
	}
	clean, _ := sanitize.Name(string(n.Type))
	return clean
}

// CheckPermissions returns an Error with CodeInvalidArgument where a permission
// cannot be written or names a resource that the account does not have. The
// configured account itself is known without asking; it need not be in the
// vendor's tree (assumed).
func (p *Provider) CheckPermissions(ctx context.Context, permissions []Permission) error {
	var asked []Permission
	for _, permission := range permissions {
		if err := permission.check(); err != nil {
			return err
		}
		if permission.ResourceType != "account" || permission.ResourceID != p.account {
			asked = append(asked, permission)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	nodes, err := p.client.tree(ctx)
	if err != nil {
		return err
	}
	ids := map[string][]string{} // by current word
	known := map[[2]string]bool{}
	walk(nodes, func(n *node) {
		word := n.word()
		ids[word] = append(ids[word], string(n.ID))
		known[[2]string{word, string(n.ID)}] = true
	})
	for _, permission := range asked {
		word, _ := currentWord(permission.ResourceType)
		if known[[2]string{word, permission.ResourceID}] {
			continue
		}
		if word == "account" {
			return invalid("the credential knows no account %s; the connection's account is %s", quote(permission.ResourceID), p.account)
		}
		return invalid("the credential knows no %s %s; %s", word, quote(permission.ResourceID), knownIDs(word, ids[word]))
	}
	return nil
}

// knownIDs is the sentence that says which ids of a type there are.
func knownIDs(word string, ids []string) string {
	if len(ids) == 0 {
		return "it sees no " + word + " at all"
	}
	more := ""
	if len(ids) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(ids)-maxNamed)
		ids = ids[:maxNamed]
	}
	return "valid are " + sanitize.Message(strings.Join(ids, ", ")) + more
}
