package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
)

// The control API below /_sandbox/ speaks JSON and has no authentication, so it
// answers loopback clients only, and no browser page:
//
//	GET    access                 Access at the address that the client used
//	GET    state[?vendor=NAME]    all tokens, accounts, members, roles, resources; no secrets
//	GET    secrets                every secret that ever existed
//	GET    requests               recorded requests (DELETE forgets them)
//	GET    faults                 ordered faults with their counts (DELETE clears them)
//	POST   faults                 order a Fault; answers {"id":N}
//	POST   canary                 {"canary":TEXT} plants it, "" removes it
//	POST   tokens                 {"vendor":NAME, …} adds a token; answers it, with its id
//	POST   tokens/VENDOR/ID       changes the members that the body has
//	DELETE tokens/VENDOR/ID       deletes it behind every client's back
//
// Members of tokens are those of AtlassianToken, LaunchDarklyToken and MailtrapToken.

// State is everything in a sandbox but the secrets.
type State struct {
	Atlassian    *AtlassianState    `json:"atlassian,omitempty"`
	LaunchDarkly *LaunchDarklyState `json:"launchdarkly,omitempty"`
	Mailtrap     *MailtrapState     `json:"mailtrap,omitempty"`
}

// AtlassianState is the organization.
type AtlassianState struct {
	Tokens   []AtlassianToken   `json:"tokens"`
	Accounts []AtlassianAccount `json:"accounts"`
	Keys     []AtlassianKey     `json:"keys"`
}

// LaunchDarklyState is the account at LaunchDarkly.
type LaunchDarklyState struct {
	Tokens  []LaunchDarklyToken  `json:"tokens"`
	Members []LaunchDarklyMember `json:"members"`
	Roles   []LaunchDarklyRole   `json:"roles"`
}

// MailtrapState is the account at Mailtrap.
type MailtrapState struct {
	Tokens    []MailtrapToken `json:"tokens"`
	Resources []MailtrapNode  `json:"resources"`
}

// State is a copy of everything but the secrets.
func (s *Sandbox) State() State {
	return State{
		Atlassian:    &AtlassianState{s.AtlassianTokens(), s.AtlassianAccounts(), s.AtlassianKeys()},
		LaunchDarkly: &LaunchDarklyState{s.LaunchDarklyTokens(), s.LaunchDarklyMembers(), s.LaunchDarklyRoles()},
		Mailtrap:     &MailtrapState{s.MailtrapTokens(), s.MailtrapResources()},
	}
}

func (s *Sandbox) serveControl(w http.ResponseWriter, r *http.Request, rest string) {
	a := controlError(http.StatusForbidden, errors.New("the control answers loopback clients only, and no browser page"))
	if local(r.RemoteAddr) && local(r.Host) && r.Header.Get("Origin") == "" {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			a = controlError(http.StatusBadRequest, err)
		} else {
			a = s.control(r, resolve(rest), body)
		}
	}
	a.encode()
	a.write(w)
}

// local tells whether an address, with or without a port, is a loopback one.
func local(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	return loopback.IsHost(host)
}

func controlError(status int, err error) answer {
	return reply(status, map[string]string{"error": err.Error()})
}

func (s *Sandbox) control(r *http.Request, path []string, body []byte) answer {
	switch request := r.Method + " " + strings.Join(path, "/"); request {
	case "GET access":
		return reply(http.StatusOK, s.Access("http://"+r.Host))
	case "GET state":
		return s.controlState(r.URL.Query().Get("vendor"))
	case "GET secrets":
		return reply(http.StatusOK, s.Secrets())
	case "GET requests":
		return reply(http.StatusOK, s.Requests())
	case "DELETE requests":
		s.ClearRequests()
		return reply(http.StatusNoContent, nil)
	case "GET faults":
		return reply(http.StatusOK, s.Faults())
	case "DELETE faults":
		s.ClearFaults()
		return reply(http.StatusNoContent, nil)
	case "POST faults":
		return s.controlFault(body)
	case "POST canary":
		var in struct{ Canary string }
		if err := decodeStrict(body, &in); err != nil {
			return controlError(http.StatusBadRequest, err)
		}
		s.SetCanary(in.Canary)
		return reply(http.StatusNoContent, nil)
	case "POST tokens":
		return s.controlAdd(body)
	}
	if len(path) == 3 && path[0] == "tokens" {
		return s.controlToken(r.Method, path[1], path[2], body)
	}
	return controlError(http.StatusNotFound, fmt.Errorf("no control endpoint %s /_sandbox/%s; there are GET access, state, secrets, requests, faults; "+
		"POST faults, canary, tokens, tokens/VENDOR/ID; DELETE requests, faults, tokens/VENDOR/ID", r.Method, strings.Join(path, "/")))
}

// decodeStrict refuses unknown members: a mistyped one must not be ignored.
func decodeStrict(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (s *Sandbox) controlState(vendor string) answer {
	state := s.State()
	switch vendor {
	case "":
		return reply(http.StatusOK, state)
	case Atlassian:
		return reply(http.StatusOK, State{Atlassian: state.Atlassian})
	case LaunchDarkly:
		return reply(http.StatusOK, State{LaunchDarkly: state.LaunchDarkly})
	case Mailtrap:
		return reply(http.StatusOK, State{Mailtrap: state.Mailtrap})
	default:
		return controlError(http.StatusBadRequest, fmt.Errorf("no vendor %q", vendor))
	}
}

func (s *Sandbox) controlFault(body []byte) answer {
	var f Fault
	if err := decodeStrict(body, &f); err != nil {
		return controlError(http.StatusBadRequest, err)
	}
	id, err := s.AddFault(f)
	if err != nil {
		return controlError(http.StatusBadRequest, err)
	}
	return reply(http.StatusCreated, map[string]int{"id": id})
}

func (s *Sandbox) controlAdd(body []byte) answer {
	var members map[string]json.RawMessage
	var vendor string
	if err := errors.Join(json.Unmarshal(body, &members), json.Unmarshal(members["vendor"], &vendor)); err != nil {
		return controlError(http.StatusBadRequest, err)
	}
	delete(members, "vendor")
	body, err := json.Marshal(members)
	if err != nil {
		return controlError(http.StatusBadRequest, err)
	}
	var added any
	switch vendor {
	case Atlassian:
		added, err = addFrom(body, s.AddAtlassianToken)
	case LaunchDarkly:
		added, err = addFrom(body, s.AddLaunchDarklyToken)
	case Mailtrap:
		added, err = addFrom(body, s.AddMailtrapToken)
	default:
		err = fmt.Errorf("no vendor %q", vendor)
	}
	if err != nil {
		return controlError(http.StatusBadRequest, err)
	}
	return reply(http.StatusCreated, added)
}

func addFrom[T any](body []byte, add func(T) (T, error)) (T, error) {
	var in T
	if err := decodeStrict(body, &in); err != nil {
		return in, err
	}
	return add(in)
}

func (s *Sandbox) controlToken(method, vendor, id string, body []byte) answer {
	number, err := strconv.ParseInt(id, 10, 64)
	if vendor == Mailtrap && err != nil {
		return controlError(http.StatusBadRequest, fmt.Errorf("mailtrap token id %q is not a number", id))
	}
	var known bool
	switch {
	case method == http.MethodDelete && vendor == Atlassian:
		known = s.DeleteAtlassianToken(id)
	case method == http.MethodDelete && vendor == LaunchDarkly:
		known = s.DeleteLaunchDarklyToken(id)
	case method == http.MethodDelete && vendor == Mailtrap:
		known = s.DeleteMailtrapToken(number)
	case method == http.MethodPost && vendor == Atlassian:
		return updated(body, func(change func(*AtlassianToken)) error { return s.UpdateAtlassianToken(id, change) })
	case method == http.MethodPost && vendor == LaunchDarkly:
		return updated(body, func(change func(*LaunchDarklyToken)) error { return s.UpdateLaunchDarklyToken(id, change) })
	case method == http.MethodPost && vendor == Mailtrap:
		return updated(body, func(change func(*MailtrapToken)) error { return s.UpdateMailtrapToken(number, change) })
	}
	if !known {
		return controlError(http.StatusNotFound, fmt.Errorf("no token %q at %q", id, vendor))
	}
	return reply(http.StatusNoContent, nil)
}

// updated lays the body's members over the token.
func updated[T any](body []byte, update func(func(*T)) error) answer {
	var token T
	var bad error
	err := update(func(t *T) {
		changed := *t
		if bad = decodeStrict(body, &changed); bad == nil {
			*t = changed
		}
		token = *t
	})
	switch {
	case err != nil:
		return controlError(http.StatusNotFound, err)
	case bad != nil:
		return controlError(http.StatusBadRequest, bad)
	default:
		return reply(http.StatusOK, token)
	}
}
