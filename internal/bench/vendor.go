package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// vendorCommand makes this program serve simulated vendors until its input ends.
const vendorCommand = "vendors"

// needle is part of the names of the few tokens that a filter finds.
const needle = "needle-in-the-haystack"

// world is the size and pace of simulated vendors.
type world struct {
	atlassian, launchDarkly, mailtrap int // tokens
	needles                           int // more tokens at each vendor, to be found by name
	latency                           time.Duration
}

func (w world) arguments() []string {
	return []string{
		vendorCommand, "-atlassian", strconv.Itoa(w.atlassian), "-launchdarkly", strconv.Itoa(w.launchDarkly),
		"-mailtrap", strconv.Itoa(w.mailtrap), "-needles", strconv.Itoa(w.needles), "-latency", w.latency.String(),
	}
}

func serveVendors(arguments []string) error {
	var w world
	f := flag.NewFlagSet(vendorCommand, flag.ContinueOnError)
	f.IntVar(&w.atlassian, "atlassian", 0, "")
	f.IntVar(&w.launchDarkly, "launchdarkly", 0, "")
	f.IntVar(&w.mailtrap, "mailtrap", 0, "")
	f.IntVar(&w.needles, "needles", 0, "")
	f.DurationVar(&w.latency, "latency", 0, "")
	if err := f.Parse(arguments); err != nil {
		return err
	}
	box, err := sandbox.New(sandbox.Options{
		Seed: 1, AtlassianTokens: &w.atlassian, LaunchDarklyTokens: &w.launchDarkly, MailtrapTokens: &w.mailtrap, Latency: w.latency,
	})
	if err != nil {
		return err
	}
	for i := range w.needles {
		name := fmt.Sprintf("%s %d", needle, i)
		_, err1 := box.AddAtlassianToken(sandbox.AtlassianToken{Label: name})
		_, err2 := box.AddLaunchDarklyToken(sandbox.LaunchDarklyToken{Name: name})
		_, err3 := box.AddMailtrapToken(sandbox.MailtrapToken{Name: name})
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
	}
	running, err := box.Start(context.Background(), "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(running.Access()); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return running.Close()
}

// vendors are simulated vendors in a process of their own.
type vendors struct {
	sandbox.Access
	stop func()
}

func startVendors(ctx context.Context, w world) (*vendors, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, w.arguments()...) //nolint:gosec // this program, numbers as arguments
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	v := &vendors{stop: func() { _ = stdin.Close(); _ = command.Wait() }}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &v.Access)
	}
	if err != nil {
		v.stop()
		return nil, fmt.Errorf("vendors: %w", err)
	}
	return v, nil
}

// The environments of a server with one connection each.

func (v *vendors) atlassianEnv() []string {
	return []string{
		"ATLASSIAN_ADMIN_TOKEN=" + v.Atlassian.Credential, "ATLASSIAN_ORG_ID=" + v.Atlassian.OrgID, "ATLASSIAN_BASE_URL=" + v.Atlassian.BaseURL,
	}
}

func (v *vendors) launchDarklyEnv() []string {
	return []string{"LAUNCHDARKLY_ACCESS_TOKEN=" + v.LaunchDarkly.Credential, "LAUNCHDARKLY_BASE_URL=" + v.LaunchDarkly.BaseURL}
}

func (v *vendors) mailtrapEnv() []string {
	return []string{
		"MAILTRAP_API_TOKEN=" + v.Mailtrap.Credential, "MAILTRAP_ACCOUNT_ID=" + strconv.FormatInt(v.Mailtrap.AccountID, 10),
		"MAILTRAP_BASE_URL=" + v.Mailtrap.BaseURL,
	}
}

// env is the environment of a server with all three.
func (v *vendors) env() []string {
	return append(append(v.atlassianEnv(), v.launchDarklyEnv()...), v.mailtrapEnv()...)
}

// bareEnv is the environment of the bare server that lists tokens.
func (v *vendors) bareEnv() []string {
	return []string{"BARE_VENDOR=" + v.LaunchDarkly.BaseURL, "BARE_CREDENTIAL=" + v.LaunchDarkly.Credential}
}

// client is a bare HTTP client that keeps so many connections.
func (v *vendors) client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
}

// read fetches LaunchDarkly's answer as tokenreeve asks for it.
func (v *vendors) read(ctx context.Context, client *http.Client, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.LaunchDarkly.BaseURL+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", v.LaunchDarkly.Credential)
	request.Header.Set("Ld-Api-Version", "20240415")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", path, response.StatusCode)
	}
	return io.ReadAll(response.Body)
}
