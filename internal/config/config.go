// Package config reads what the operator set: config.json, the environment and the command line's
// flags, each taking precedence over the one before. It reports all problems at once, each with its
// place, and opens no credential.
package config

import (
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sink"
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
	Schema             string                `json:"$schema,omitempty" jsonschema_description:"This file's JSON schema, for editors. Not read."`
	Connections        map[string]Connection `json:"connections,omitempty" jsonschema_description:"The accounts, each under a name of lower-case letters, digits, - and _."`
	Sinks              map[string]Sink       `json:"sinks,omitempty" jsonschema_description:"The places that receive new secrets, each under a name of lower-case letters, digits, - and _."`
	Auth               Auth                  `json:"auth,omitzero" jsonschema_description:"Who may call over HTTP. Where it names nobody, one bearer token is made at the start, or taken from TOKENREEVE_BEARER_TOKEN."`
	HumanApproval      HumanApproval         `json:"human_approval,omitzero" jsonschema_description:"When a human must agree to a change, besides the confirm code."`
	State              State                 `json:"state,omitzero" jsonschema_description:"Where several servers keep what they share. Without it, all state is in files of this machine, in the state directory."`
	RecoveryRecipients []string              `json:"recovery_recipients,omitempty" jsonschema_description:"Age public keys (age1...) of people who can decrypt what is in escrow, besides the server itself."`
	EscrowRetention    time.Duration         `json:"escrow_retention,omitempty" jsonschema:"default=24h" jsonschema_description:"How long the escrow keeps a secret that went to a sink which cannot be read back, from 1h to 30d."`
	RateReserve        float64               `json:"rate_reserve,omitempty" jsonschema:"minimum=0,maximum=0.9,default=0.2" jsonschema_description:"Share of each vendor's rate limit that is left to everybody else."`
	CAFile             string                `json:"ca_file,omitempty" jsonschema_description:"PEM file of certificates to trust besides the system's; nobody but its owner or root may be able to change it."`
	Timeout            time.Duration         `json:"timeout,omitempty" jsonschema:"default=30s" jsonschema_description:"Limit of one vendor call, from 1s to 5m."`
	Log                Log                   `json:"log,omitzero" jsonschema_description:"What is logged to standard error, and how."`
	Serve              Serve                 `json:"serve,omitzero" jsonschema_description:"How tokenreeve serve serves several callers over HTTP. Flags of that command take precedence."`
	ReadOnly           bool                  `json:"read_only,omitempty" jsonschema:"default=false" jsonschema_description:"Offer only the tools that change nothing."`

	// File is the configuration file that was read, empty where there was none.
	File string `json:"-"`
	// StateDir is the absolute path of the state directory. It is not made here. It can be empty where
	// state.postgres is set: nothing is kept there then.
	StateDir string `json:"-"`
	// DefaultSink is the sink of connections that name none: the only one configured or, over stdio
	// with none configured, "files" below the state directory; with state.postgres there is none, as
	// its files would be on one machine. Else it is empty.
	DefaultSink string `json:"-"`
	// Setup says what to set, in sentences for the user, where there is no connection.
	Setup []string `json:"-"`
}

// State says where several servers keep what they share.
type State struct {
	Postgres auth.Reference `json:"postgres,omitzero" jsonschema_description:"Where the URL of a PostgreSQL database is kept, which then holds ledger, previews and escrow. Needs keys. No secret stands in this file."`
	Keys     auth.Reference `json:"keys,omitzero" jsonschema_description:"Where the shared keys are kept: age identities, one a line, as tokenreeve state new-keys makes them. The first encrypts and seals; the others still decrypt. No secret stands in this file."`
}

// IsShared reports whether several servers share the state.
func (s State) IsShared() bool { return !s.Postgres.IsZero() }

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
	VendorFilters            bool           `json:"vendor_filters,omitempty" provider:"atlassian" jsonschema:"default=false" jsonschema_description:"Atlassian: let the vendor filter lists by status, dates and label as well, which coverage then tells. Results are always filtered again here."`
	PageSize                 int            `json:"page_size,omitempty" provider:"atlassian,launchdarkly" jsonschema:"minimum=1,maximum=1000" jsonschema_description:"Atlassian and LaunchDarkly: tokens asked for at a time, if not the largest page known to work."`
	PathFamily               string         `json:"path_family,omitempty" provider:"mailtrap" jsonschema:"enum=account,enum=flat,default=account" jsonschema_description:"Mailtrap: which paths to call: account for /api/accounts/ID/api_tokens, flat for /api/api_tokens."`
	ResourceWords            string         `json:"resource_words,omitempty" provider:"mailtrap" jsonschema:"enum=current,enum=old,default=current" jsonschema_description:"Mailtrap: words of permissions when writing: current for sandbox and domain, old for inbox and sending_domain."`
	Sink                     string         `json:"sink,omitempty" provider:"launchdarkly,mailtrap" jsonschema_description:"LaunchDarkly and Mailtrap: the sink that receives new secrets unless a call names another."`
	Allow                    []policy.Class `json:"allow,omitempty" jsonschema:"minItems=1,enum=read,enum=mint,enum=update,enum=rotate,enum=revoke,enum=bulk" jsonschema_description:"The classes of tools that may be used, all by default."`
	Protect                  Protect        `json:"protect,omitzero" jsonschema_description:"Tokens that nothing changes."`
	Limits                   Limits         `json:"limits,omitzero" jsonschema_description:"Caps on changes."`
	Mint                     Mint           `json:"mint,omitzero" provider:"launchdarkly,mailtrap" jsonschema_description:"LaunchDarkly and Mailtrap: what a token may be given when it is created or changed."`
	InUse                    time.Duration  `json:"in_use,omitempty" provider:"atlassian,launchdarkly" jsonschema_description:"Atlassian and LaunchDarkly: a token that was used within this time, from 1h to 90d, is revoked, or reset as compromised, only with allow_in_use. Off by default."`
}

// Protect names tokens that nothing changes. It converts to policy.Protect.
type Protect struct {
	IDs    []string `json:"ids,omitempty" jsonschema_description:"Token ids."`
	Owners []string `json:"owners,omitempty" jsonschema_description:"Account ids, member ids or e-mail addresses of owners."`
	Names  []string `json:"names,omitempty" jsonschema_description:"Names; * stands for any text."`
	Kinds  []string `json:"kinds,omitempty" jsonschema:"enum=user,enum=service,enum=unknown" jsonschema_description:"Kinds of tokens: user, service, or unknown, which all of Mailtrap's are."`
}

// Limits are caps on changes.
type Limits struct {
	TargetsPerPreview  int `json:"targets_per_preview,omitempty" jsonschema:"minimum=1,maximum=100,default=100" jsonschema_description:"Tokens that one preview may hold."`
	RevocationsPerHour int `json:"revocations_per_hour,omitempty" jsonschema:"minimum=1,maximum=10000,default=50" jsonschema_description:"Tokens that one caller may revoke within an hour."`
}

// Mint bounds what a token may be given. It converts to policy.MintRules.
type Mint struct {
	Access         []policy.Grant `json:"access,omitempty" jsonschema:"minItems=1,enum=read,enum=write,enum=custom,enum=inline,enum=account_admin,enum=admin" jsonschema_description:"The access that a token may have, read and write by default; admin allows all. LaunchDarkly: read, write, custom, inline, admin. Mailtrap: read, write, account_admin, admin."`
	LongestLife    time.Duration  `json:"longest_life,omitempty" jsonschema_description:"Mailtrap: the longest time until a token expires, from 1h to 5y."`
	ExpiryRequired bool           `json:"expiry_required,omitempty" jsonschema:"default=false" jsonschema_description:"Mailtrap: refuse tokens that never expire."`
}

// HumanApproval says when a human must agree.
type HumanApproval struct {
	Single       policy.Approval `json:"single,omitempty" jsonschema:"enum=off,enum=when_possible,enum=required,default=off" jsonschema_description:"For one token."`
	Bulk         policy.Approval `json:"bulk,omitempty" jsonschema:"enum=off,enum=when_possible,enum=required,default=when_possible" jsonschema_description:"For several tokens at once, and for one after many within an hour."`
	OrgWide      policy.Approval `json:"org_wide,omitempty" jsonschema:"enum=required,default=required" jsonschema_description:"For every token of an organization: always required."`
	TrustClient  bool            `json:"trust_client,omitempty" jsonschema:"default=false" jsonschema_description:"Let what a client on stdio answers meet required, although it shows only that the client program answered. Over HTTP it never does."`
	SecondPerson bool            `json:"second_person,omitempty" jsonschema:"default=false" jsonschema_description:"What takes several tokens at once, or one after many within an hour, needs the yes of another principal than who asks, whatever bulk says: of a caller with the role approver, over HTTP, or at the operator's terminal where the caller is not the local user."`
}

// Policy returns when a human must agree, without what is always so.
func (h HumanApproval) Policy() policy.HumanApproval {
	return policy.HumanApproval{Single: h.Single, Bulk: h.Bulk, TrustClient: h.TrustClient, SecondPerson: h.SecondPerson}
}

// The types of sinks.
const (
	FileSink    = "file"
	KeyringSink = "keyring"
	ExecSink    = "exec"
	VaultSink   = "vault"
)

// Dotenv is the format of file sinks that keep secrets as variables.
const Dotenv = "dotenv"

// Sink is a place that receives secrets. The tag type says where a member belongs to some types only.
type Sink struct {
	Type      string         `json:"type" jsonschema:"enum=file,enum=keyring,enum=exec,enum=vault" jsonschema_description:"file: files. keyring: the desktop's keyring. exec: a command. vault: a KV version 2 engine of HashiCorp Vault or OpenBao."`
	Directory string         `json:"directory,omitempty" type:"file" jsonschema_description:"File (required): absolute path, or one that begins with ~/, of a directory that is the user's alone. It is made where it is missing."`
	Format    string         `json:"format,omitempty" type:"file" jsonschema:"enum=raw,enum=dotenv,default=raw" jsonschema_description:"File: raw for a file for each secret, dotenv for variables in files; keys are then FILE/VARIABLE."`
	Argv      []string       `json:"argv,omitempty" type:"exec" jsonschema:"minItems=1" jsonschema_description:"Exec (required): command and arguments, run without a shell. {key} stands for the key."`
	Rotate    []string       `json:"rotate,omitempty" type:"exec" jsonschema:"minItems=1" jsonschema_description:"Exec: command and arguments in a rotation, if they differ from argv."`
	Stdin     string         `json:"stdin,omitempty" type:"exec" jsonschema:"default={secret}" jsonschema_description:"Exec: what the command reads. {secret} stands for the secret, {secret_json} for it as a JSON string, {key} for the key."`
	Env       []string       `json:"env,omitempty" type:"exec" jsonschema_description:"Exec: names of the environment variables that the command gets. It gets no others."`
	Timeout   time.Duration  `json:"timeout,omitempty" type:"exec" jsonschema:"default=30s" jsonschema_description:"Exec: limit of one run, from 1s to 1m."`
	Address   string         `json:"address,omitempty" type:"vault" jsonschema_description:"Vault (required): the server's address, https, or http on this machine, without a path."`
	Namespace string         `json:"namespace,omitempty" type:"vault" jsonschema_description:"Vault: the namespace, if not the root."`
	Mount     string         `json:"mount,omitempty" type:"vault" jsonschema:"default=secret" jsonschema_description:"Vault: where the KV version 2 engine is mounted."`
	Prefix    string         `json:"prefix,omitempty" type:"vault" jsonschema_description:"Vault: what stands before each key in the engine."`
	Field     string         `json:"field,omitempty" type:"vault" jsonschema:"default=value" jsonschema_description:"Vault: the field of an entry that holds the secret."`
	Token     auth.Reference `json:"token,omitzero" type:"vault" jsonschema_description:"Vault (required): where the token is kept. No secret stands in this file."`
	CAFile    string         `json:"ca_file,omitempty" type:"vault" jsonschema_description:"Vault: PEM file of the certificates to trust there, if not the system's."`
	Accept    Accept         `json:"accept,omitzero" jsonschema_description:"What comes in. An empty list accepts all; an exec sink must have prefixes."`
}

// Accept says what a sink accepts. It converts to sink.Accept.
type Accept struct {
	Prefixes    []string `json:"prefixes,omitempty" jsonschema_description:"Beginnings of keys, such as ci/."`
	Connections []string `json:"connections,omitempty" jsonschema_description:"Connections whose secrets may come."`
	Principals  []string `json:"principals,omitempty" jsonschema_description:"Callers who may have secrets delivered: local over stdio; over HTTP token:NAME, oidc:ISSUER:SUBJECT, or bearer where auth names nobody."`
}

// ExecOptions returns the settings of an exec sink.
func (s *Sink) ExecOptions() sink.ExecOptions {
	return sink.ExecOptions{Argv: s.Argv, Rotate: s.Rotate, Stdin: s.Stdin, Env: s.Env, Timeout: s.Timeout, Accept: sink.Accept(s.Accept)}
}

// VaultOptions returns the settings of a vault sink, without its token and CA.
func (s *Sink) VaultOptions() sink.VaultOptions {
	return sink.VaultOptions{
		Address: s.Address, Namespace: s.Namespace, Mount: s.Mount, Prefix: s.Prefix, Field: s.Field, Accept: sink.Accept(s.Accept),
	}
}

// The transports of HTTP.
const (
	TransportSSE  = "sse"
	TransportHTTP = "http"
	TransportBoth = "both"
)

// Serve says how HTTP is served.
type Serve struct {
	Listen         string   `json:"listen,omitempty" jsonschema_description:"Where to listen, HOST:PORT; stdio is served without one. An address that other machines reach needs TLS."`
	Transport      string   `json:"transport,omitempty" jsonschema:"enum=sse,enum=http,enum=both,default=both" jsonschema_description:"http: Streamable HTTP at /mcp. sse: server-sent events at /sse and /message. both: both."`
	TLS            TLS      `json:"tls,omitzero" jsonschema_description:"The certificate, which is read again when it changes."`
	BehindTLSProxy bool     `json:"behind_tls_proxy,omitempty" jsonschema:"default=false" jsonschema_description:"Listen without TLS beyond this machine, since a proxy in front does it."`
	AllowedHosts   []string `json:"allowed_hosts,omitempty" jsonschema_description:"The names by which clients reach the server, HOST or HOST:PORT; without a port that of https, or of http where there is no TLS. By default the listener's own."`
	TrustedProxies []string `json:"trusted_proxies,omitempty" jsonschema_description:"Addresses or networks of proxies whose X-Forwarded-For tells who calls, such as 10.0.0.0/8. None by default."`
	AllowedOrigins []string `json:"allowed_origins,omitempty" jsonschema_description:"Origins of web pages that may call from elsewhere, such as https://app.example.com. None by default."`
	MetricsListen  string   `json:"metrics_listen,omitempty" jsonschema_description:"Where /metrics stands by itself, HOST:PORT, for whoever reaches it, without authentication. By default it stands on the main listener, for callers who may read."`
	MetricsOpen    bool     `json:"metrics_open,omitempty" jsonschema:"default=false" jsonschema_description:"Let metrics_listen be an address that other machines reach."`
	MaxSessions    int      `json:"max_sessions,omitempty" jsonschema:"minimum=1,maximum=100000,default=1000" jsonschema_description:"Sessions that may be open at the same time. Where auth names callers, one of them has half at most."`
	MaxCalls       int      `json:"max_calls,omitempty" jsonschema:"minimum=1,maximum=1000,default=16" jsonschema_description:"Calls that one caller may have under way at the same time."`
}

// TLS names the PEM files of a certificate.
type TLS struct {
	Cert string `json:"cert,omitempty" jsonschema_description:"Absolute path, or one that begins with ~/, of the certificate and those that lead to its authority."`
	Key  string `json:"key,omitempty" jsonschema_description:"Absolute path, or one that begins with ~/, of its key."`
}

// Log says what is logged to standard error, and how.
type Log struct {
	Level  string `json:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error,default=info" jsonschema_description:"The least level that is logged."`
	Format string `json:"format,omitempty" jsonschema:"enum=text,enum=json,default=text" jsonschema_description:"text for people, json for programs."`
}

func (c *Config) setDefaults() {
	c.HumanApproval = HumanApproval{Single: policy.ApprovalOff, Bulk: policy.ApprovalWhenPossible, OrgWide: policy.ApprovalRequired}
	c.EscrowRetention = 24 * time.Hour
	c.RateReserve = 0.2
	c.Timeout = 30 * time.Second
	c.Log = Log{Level: "info", Format: "text"}
	c.Serve.setDefaults()
}

func (s *Serve) setDefaults() {
	s.Transport, s.MaxSessions, s.MaxCalls = TransportBoth, 1000, 16
}

func (c *Connection) setDefaults() {
	c.Allow = policy.Classes()
	c.Limits = Limits{TargetsPerPreview: policy.MaxTargets, RevocationsPerHour: policy.DefaultRevocations}
}

// mints reports whether the connection's vendor makes tokens, so that it needs a sink.
func (c *Connection) mints() bool { return c.Provider == LaunchDarkly || c.Provider == Mailtrap }
