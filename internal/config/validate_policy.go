package config

import (
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	// maxLife is about what Mailtrap accepts.
	maxLife  = 5 * 365 * day
	maxInUse = 90 * day
)

func (l *loader) checkApproval() {
	h, ps, valid := l.config.HumanApproval, &l.problems, wordsOf(policy.Approvals())
	checkOneOf(ps, "human_approval.single", string(h.Single), valid)
	checkOneOf(ps, "human_approval.bulk", string(h.Bulk), valid)
	if h.OrgWide != policy.ApprovalRequired {
		ps.add("human_approval.org_wide", "is %s, but a human must always agree before every token of an organization ends; valid: required", quote(string(h.OrgWide)))
	}
}

// checkEffect refuses policy that cannot do at the vendor what it says, with the reason, also where it
// holds nothing. It comes before checkMembers, which knows no reasons.
func (l *loader) checkEffect(place, provider string) {
	refuse := func(member, reason string) {
		if l.present[place+"."+member] {
			l.problems.add(place+"."+member, "%s", reason)
		}
	}
	switch provider {
	case Atlassian:
		refuse("mint", "bounds nothing, since nothing here makes or changes a token at Atlassian; leave it out")
	case LaunchDarkly:
		refuse("mint.longest_life", "bounds nothing, since LaunchDarkly's tokens have no end; leave it out")
		refuse("mint.expiry_required", "bounds nothing, since LaunchDarkly's tokens have no end; leave it out")
	case Mailtrap:
		refuse("in_use", "would count every token as in use, since Mailtrap does not tell when a token was last used; use protect")
	}
}

func (l *loader) checkPolicy(place string, c *Connection) {
	ps := &l.problems
	valid := wordsOf(policy.Classes())
	if len(c.Allow) == 0 {
		ps.add(place+".allow", "is empty; leave it out to allow everything, or name some of %s", strings.Join(valid, ", "))
	}
	for i, class := range c.Allow {
		checkOneOf(ps, element(place+".allow", i), string(class), valid)
	}
	l.checkTexts(place+".protect.ids", c.Protect.IDs)
	l.checkTexts(place+".protect.owners", c.Protect.Owners)
	if c.Provider == Mailtrap && len(c.Protect.Owners) > 0 {
		ps.add(place+".protect.owners", "protects nothing, since Mailtrap does not tell who owns a token; use ids or names")
	}
	l.checkTexts(place+".protect.names", c.Protect.Names)
	for i, kind := range c.Protect.Kinds {
		checkOneThere(ps, element(place+".protect.kinds", i), kind, wordsOf(allKinds()), wordsOf(kindsOf(c.Provider)), c.Provider)
	}
	if n := c.Limits.TargetsPerPreview; n < 1 || n > policy.MaxTargets {
		ps.add(place+".limits.targets_per_preview", "is out of range; valid: 1 to %d", policy.MaxTargets)
	}
	if n := c.Limits.RevocationsPerHour; n < 1 || n > policy.MaxRevocations {
		ps.add(place+".limits.revocations_per_hour", "is out of range; valid: 1 to %d", policy.MaxRevocations)
	}
	l.checkMint(place+".mint", c)
	if c.InUse != 0 && (c.InUse < time.Hour || c.InUse > maxInUse) {
		ps.add(place+".in_use", "is out of range; valid: 1h to 90d")
	}
}

func (l *loader) checkMint(place string, c *Connection) {
	ps, valid := &l.problems, wordsOf(grantsOf(c.Provider))
	if c.Mint.Access != nil && len(c.Mint.Access) == 0 {
		ps.add(place+".access", "is empty; leave it out to allow read and write, or name some of %s", strings.Join(valid, ", "))
	}
	for i, grant := range c.Mint.Access {
		checkOneThere(ps, element(place+".access", i), string(grant), wordsOf(policy.Grants()), valid, c.Provider)
	}
	if life := c.Mint.LongestLife; life != 0 && (life < time.Hour || life > maxLife) {
		ps.add(place+".longest_life", "is out of range; valid: 1h to 5y")
	}
}

// checkTexts refuses an entry that protects nothing although it seems to.
func (l *loader) checkTexts(place string, texts []string) {
	for i, text := range texts {
		if strings.TrimSpace(text) != text || text == "" {
			l.problems.add(element(place, i), "is empty, or has spaces around it; it would match no token")
		}
	}
}

// grantsOf returns the access that tokens of the provider can have.
func grantsOf(provider string) []policy.Grant {
	switch provider {
	case LaunchDarkly:
		return []policy.Grant{policy.GrantRead, policy.GrantWrite, policy.GrantCustom, policy.GrantInline, policy.GrantAdmin}
	case Mailtrap:
		return []policy.Grant{policy.GrantRead, policy.GrantWrite, policy.GrantAccountAdmin, policy.GrantAdmin}
	default:
		return policy.Grants()
	}
}

func allKinds() []providers.Kind {
	return []providers.Kind{providers.KindUser, providers.KindService, providers.KindUnknown}
}

// kindsOf returns the kinds that tokens of the provider can have.
func kindsOf(provider string) []providers.Kind {
	switch provider {
	case Atlassian, LaunchDarkly:
		return []providers.Kind{providers.KindUser, providers.KindService}
	case Mailtrap:
		return []providers.Kind{providers.KindUnknown}
	default:
		return allKinds()
	}
}

// checkOneThere reports a value that is none of all the words, or none of those that occur at the provider.
func checkOneThere(ps *report, place, value string, all, there []string, provider string) {
	if slices.Contains(all, value) && !slices.Contains(there, value) {
		ps.add(place, "is %s, which does not occur at %s; valid: %s", quote(value), provider, strings.Join(there, ", "))
		return
	}
	checkOneOf(ps, place, value, there)
}

func wordsOf[T ~string](words []T) []string {
	list := make([]string, 0, len(words))
	for _, word := range words {
		list = append(list, string(word))
	}
	return list
}
