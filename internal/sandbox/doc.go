// Package sandbox simulates the token APIs of Atlassian Cloud (user management
// and API Access), LaunchDarkly and Mailtrap over real HTTP, for the demo and
// for tests. It is stateful, deterministic from a seed, and shares no code with
// the clients: the two can disagree.
//
// A sandbox for a test:
//
//	box, err := sandbox.New(sandbox.Options{Seed: 1, Tokens: 300})
//	srv, err := box.Start(ctx, "127.0.0.1:0") // or httptest.NewServer(box.Handler())
//	defer srv.Close()
//	access := srv.Access() // or box.Access(baseURL)
//
// Access names a base URL and credentials for each vendor. A client appends the
// vendor's own paths to the base URL by plain concatenation:
//
//	{base}/atlassian     /users/{account}/manage/api-tokens, /admin/api-access/v1/orgs/{org}/…
//	{base}/launchdarkly  /api/v2/tokens, /api/v2/caller-identity
//	{base}/mailtrap      /api/accounts/{account}/api_tokens, /api/api_tokens, …
//	{base}/_sandbox/     control: faults, recorded requests, state (see control.go)
//
// Secrets that the sandbox mints authenticate from then on, and stop when the
// token is deleted, reset or expired. Path segments "." and ".." and empty ones
// are resolved the way gateways resolve them, so that a client that lets an id
// change the endpoint is found out.
//
// Where a vendor does not document an answer, the sandbox takes the likeliest
// one; the fields of AtlassianOptions, LaunchDarklyOptions and MailtrapOptions
// select the others. Faults (AddFault, or POST /_sandbox/faults) order latency,
// refusals, cut connections, broken bodies and answers that get lost after the
// change was made.
//
// Tests that need drift change the state behind the client's back: Add…Token,
// Update…Token and Delete…Token for each vendor. Secrets lists every secret that
// ever existed, for tests which prove that none leaks; Options.Canary plants a
// marker in every error and record, for tests which prove that no body is echoed.
// Changes lists what became of which token, for tests which compare that with
// what a client believes.
package sandbox
