// Package config reads what the operator set: config.json, the environment and the command line's
// flags, each taking precedence over the one before. It reports all problems at once, each with its
// place, and opens no credential.
package config

import (
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/policy"
)

// The providers, as connections name them.
const (
	Atlassian    = "atlassian"
	LaunchDarkly = "launchdarkly"
	Mailtrap     = "mailtrap"
)

// Config is the whole configuration, valid and with its defaults. The members with a JSON name are
// those of config.json.
type Config struct {
	Schema      string                `json:"$schema,omitempty" jsonschema_description:"This file's JSON schema, for editors. Not read."`
	Connections map[string]Connection `json:"connections,omitempty" jsonschema_description:"The accounts, each under a name of lower-case letters, digits, - and _."`
	Sinks       map[string]Sink       `json:"sinks,omitempty" jsonschema_description:"The places that receive new secrets, each under a name of lower-case letters, digits, - and _."`
	RateReserve float64               `json:"rate_reserve,omitempty" jsonschema:"minimum=0,maximum=0.9,default=0.2" jsonschema_description:"Share of each vendor's rate limit that is left to everybody else."`
	CAFile      string                `json:"ca_file,omitempty" jsonschema_description:"PEM file of certificates to trust besides the system's."`
	Timeout     time.Duration         `json:"timeout,omitempty" jsonschema:"default=30s" jsonschema_description:"Limit of one vendor call, from 1s to 5m."`
	Log         Log                   `json:"log,omitzero" jsonschema_description:"What is logged to standard error, and how."`
	ReadOnly    bool                  `json:"read_only,omitempty" jsonschema:"default=false" jsonschema_description:"Offer only the tools that change nothing."`

	// File is the configuration file that was read, empty where there was none.
	File string `json:"-"`
	// StateDir is the absolute path of the state directory. It is not made here.
	StateDir string `json:"-"`
	// DefaultSink is the sink of connections that name none: the only one configured or, over stdio
	// with none configured, "files" below the state directory. Else it is empty.
	DefaultSink string `json:"-"`
	// Setup says what to set, in sentences for the user, where there is no connection.
	Setup []string `json:"-"`
}

// Connection is one account at a provider. The tag provider says where a member belongs to some
// providers only.
type Connection struct {
	Provider                 string         `json:"provider" jsonschema:"enum=atlassian,enum=launchdarkly,enum=mailtrap" jsonschema_description:"The vendor."`
	BaseURL                  string         `json:"base_url,omitempty" jsonschema_description:"Where the vendor's API is, if not at its usual address: https, or http on this machine."`
	Credential               auth.Reference `json:"credential" jsonschema_description:"Where the credential is kept. No secret stands in this file."`
	UserManagementCredential auth.Reference `json:"user_management_credential,omitzero" provider:"atlassian" jsonschema_description:"Atlassian: where the unscoped API key is kept that revokes single tokens, if credential is a scoped one."`
	OrgID                    string         `json:"org_id,omitempty" provider:"atlassian" jsonschema:"format=uuid" jsonschema_description:"Atlassian (required): the organization's id, a UUID."`
	AccountID                int64          `json:"account_id,omitempty" provider:"mailtrap" jsonschema:"minimum=1" jsonschema_description:"Mailtrap (required): the account's id."`
	OrgWideRevoke            bool           `json:"org_wide_revoke,omitempty" provider:"atlassian" jsonschema:"default=false" jsonschema_description:"Atlassian: allow the one call that ends every token of the organization."`
	VendorFilters            bool           `json:"vendor_filters,omitempty" provider:"atlassian" jsonschema:"default=false" jsonschema_description:"Atlassian: let the vendor filter by status, dates and label as well. Results are always filtered again here."`
	PageSize                 int            `json:"page_size,omitempty" provider:"atlassian,launchdarkly" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Atlassian and LaunchDarkly: tokens asked for at a time, if not the largest page known to work."`
	PathFamily               string         `json:"path_family,omitempty" provider:"mailtrap" jsonschema:"enum=account,enum=flat,default=account" jsonschema_description:"Mailtrap: which paths to call: account for /api/accounts/ID/api_tokens, flat for /api/api_tokens."`
	ResourceWords            string         `json:"resource_words,omitempty" provider:"mailtrap" jsonschema:"enum=current,enum=old,default=current" jsonschema_description:"Mailtrap: words of permissions when writing: current for sandbox and domain, old for inbox and sending_domain."`
	Sink                     string         `json:"sink,omitempty" provider:"launchdarkly,mailtrap" jsonschema_description:"LaunchDarkly and Mailtrap: the sink that receives new secrets unless a call names another."`
	Allow                    []policy.Class `json:"allow,omitempty" jsonschema:"minItems=1,enum=read,enum=mint,enum=update,enum=rotate,enum=revoke,enum=bulk" jsonschema_description:"The classes of tools that may be used, all by default."`
	Protect                  Protect        `json:"protect,omitzero" jsonschema_description:"Tokens that nothing changes."`
	Limits                   Limits         `json:"limits,omitzero" jsonschema_description:"Caps on changes."`
}

// Protect names tokens that nothing changes. It converts to policy.Protect.
type Protect struct {
	IDs    []string `json:"ids,omitempty" jsonschema_description:"Token ids."`
	Owners []string `json:"owners,omitempty" jsonschema_description:"Account ids, member ids or e-mail addresses of owners."`
	Names  []string `json:"names,omitempty" jsonschema_description:"Names; * stands for any text."`
}

// Limits are caps on changes.
type Limits struct {
	TargetsPerPreview int `json:"targets_per_preview,omitempty" jsonschema:"minimum=1,maximum=100,default=100" jsonschema_description:"Tokens that one preview may hold."`
}

// Sink is a place that receives secrets.
type Sink struct {
	Type      string `json:"type" jsonschema:"enum=file" jsonschema_description:"file: a file for each secret."`
	Directory string `json:"directory" jsonschema_description:"Absolute path, or one that begins with ~/, of a directory that is the user's alone. It is made where it is missing."`
}

// Log says what is logged to standard error, and how.
type Log struct {
	Level  string `json:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error,default=info" jsonschema_description:"The least level that is logged."`
	Format string `json:"format,omitempty" jsonschema:"enum=text,enum=json,default=text" jsonschema_description:"text for people, json for programs."`
}

func (c *Config) setDefaults() {
	c.RateReserve = 0.2
	c.Timeout = 30 * time.Second
	c.Log = Log{Level: "info", Format: "text"}
}

func (c *Connection) setDefaults() {
	c.Allow = policy.Classes()
	c.Limits.TargetsPerPreview = policy.MaxTargets
}

// mints reports whether the connection's vendor makes tokens, so that it needs a sink.
func (c *Connection) mints() bool { return c.Provider == LaunchDarkly || c.Provider == Mailtrap }
