// Package auth holds both directions of identity: outbound, where a connection's credential comes
// from; inbound, who is calling.
package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zalando/go-keyring"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

const (
	// maxCredential caps what a source gives, in bytes.
	maxCredential = 64 << 10
	// readTimeout bounds a command and a keyring, which may wait for a person.
	readTimeout = 10 * time.Second
	// waitDelay is how long a command's output may stay open after its end.
	waitDelay = time.Second
	// keyringService is the service under which the keyring's entries are kept.
	keyringService = "tokenreeve"
)

// Reference names where a credential is kept. Exactly one member is set.
type Reference struct {
	Env     string   `json:"env,omitempty" jsonschema_description:"Name of an environment variable."`
	File    string   `json:"file,omitempty" jsonschema_description:"Absolute path of a file, or one that begins with ~/; nobody but its owner or root may be able to change it."`
	Exec    []string `json:"exec,omitempty" jsonschema:"minItems=1" jsonschema_description:"Command and arguments, run without a shell, that print the credential within 10 seconds."`
	Keyring string   `json:"keyring,omitempty" jsonschema_description:"Entry of the desktop's keyring, in the service tokenreeve."`
}

// validReferences tells what a Reference looks like.
const validReferences = `exactly one of {"env": NAME}, {"file": PATH}, {"exec": [ARGV]}, {"keyring": NAME}`

// IsZero reports whether r names nothing.
func (r Reference) IsZero() bool {
	return r.Env == "" && r.File == "" && len(r.Exec) == 0 && r.Keyring == ""
}

// String says where the credential is kept. Of a command it tells the name only.
func (r Reference) String() string {
	switch {
	case r.Env != "":
		return envReader(r.Env).String()
	case r.File != "":
		return "file " + sanitize.Message(r.File)
	case len(r.Exec) > 0:
		return "command " + commandReader(r.Exec).name()
	case r.Keyring != "":
		return keyringReader(r.Keyring).String()
	default:
		return "nowhere"
	}
}

// Validate finds out, without reading anything, whether r can name a credential. Its error does not
// quote r: somebody may have put the credential itself there.
func (r Reference) Validate() error {
	members := 0
	for _, set := range [...]bool{r.Env != "", r.File != "", len(r.Exec) > 0, r.Keyring != ""} {
		if set {
			members++
		}
	}
	switch {
	case members != 1:
		return fmt.Errorf("names %d sources; valid: %s", members, validReferences)
	case r.Env != "" && !isEnvName(r.Env):
		return errors.New("env is not the name of an environment variable; valid: letters, digits and _, no digit first, for example MAILTRAP_API_TOKEN")
	case r.File != "":
		return validFile(r.File)
	case len(r.Exec) > 0:
		return validCommand(r.Exec)
	}
	return nil
}

func validFile(path string) error {
	// Only the form counts here, so any home directory will do.
	if _, err := trustedfile.Absolute(path, os.TempDir()); err != nil {
		return fmt.Errorf("file %w", err)
	}
	return nil
}

// validCommand refuses a relative path: a cloned repository must not be able to provide the command.
func validCommand(argv []string) error {
	switch name := argv[0]; {
	case name == "":
		return errors.New("exec begins with an empty command; valid: the command and its arguments")
	case filepath.Base(name) != name && !filepath.IsAbs(name):
		return errors.New("exec begins with a relative path; valid: a command found in PATH, or an absolute path")
	}
	return nil
}

func isEnvName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		digit := r >= '0' && r <= '9'
		if !letter && (!digit || i == 0) {
			return false
		}
	}
	return s != ""
}

// New returns the source that ref names. Nothing is read before its Read, and Read reads anew each
// time, so that a credential can be renewed while the server runs. No error of a source holds any
// part of what was read.
func New(ref Reference) (transport.Source, error) { return newSource(ref, credential) }

// NewText is [New] for what is no header's value: it may have blanks and several lines.
func NewText(ref Reference) (transport.Source, error) { return newSource(ref, text) }

func newSource(ref Reference, judge func([]byte) (string, error)) (transport.Source, error) {
	if err := ref.Validate(); err != nil {
		return nil, fmt.Errorf("credential %w", err)
	}
	switch {
	case ref.Env != "":
		return source{envReader(ref.Env), judge}, nil
	case ref.File != "":
		return source{fileReader(ref.File), judge}, nil
	case len(ref.Exec) > 0:
		return source{commandReader(ref.Exec), judge}, nil
	default:
		return source{keyringReader(ref.Keyring), judge}, nil
	}
}

// source is a credential's source. Its reader says in an error which source failed.
type source struct {
	reader interface {
		read(ctx context.Context) ([]byte, error)
		// String names the source for an error.
		String() string
	}
	judge func([]byte) (string, error)
}

// Read implements transport.Source.
func (s source) Read(ctx context.Context) (secret.Secret, error) {
	data, err := s.reader.read(ctx)
	if err != nil {
		return secret.Secret{}, err
	}
	value, err := s.judge(data)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("%s %w", s.reader, err)
	}
	return secret.New(value), nil
}

// credential trims one line end and refuses what cannot be a credential: a line break inside would
// add a header to every request.
func credential(data []byte) (string, error) {
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if value == "" {
		return "", errors.New("is empty")
	}
	if len(value) > maxCredential {
		return "", fmt.Errorf("holds more than %d KiB", maxCredential>>10)
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return "", errors.New("holds more than a credential: a space, a line break, a control character or a character beyond ASCII")
		}
	}
	return value, nil
}

// text trims white space at both ends and refuses what no text has.
func text(data []byte) (string, error) {
	value := strings.TrimSpace(string(data))
	if value == "" {
		return "", errors.New("is empty")
	}
	if len(value) > maxCredential {
		return "", fmt.Errorf("holds more than %d KiB", maxCredential>>10)
	}
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return "", errors.New("is not text in UTF-8")
	}
	return value, nil
}

type envReader string

func (name envReader) String() string {
	return "environment variable " + sanitize.Message(string(name))
}

func (name envReader) read(context.Context) ([]byte, error) {
	value := os.Getenv(string(name))
	if value == "" {
		return nil, fmt.Errorf("%s is not set", name)
	}
	return []byte(value), nil
}

type fileReader string

func (path fileReader) String() string { return "credential file " + string(path) }

func (path fileReader) read(context.Context) ([]byte, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	absolute, err := trustedfile.Absolute(string(path), home)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	data, err := trustedfile.Read(absolute, maxCredential)
	if err != nil {
		return nil, fmt.Errorf("credential file: %w", err)
	}
	return data, nil
}

type commandReader []string

func (argv commandReader) String() string { return "the output of command " + argv.name() }

func (argv commandReader) name() string { return sanitize.Message(argv[0]) }

// read runs the command with this process's environment. It has no standard input, which carries
// JSON-RPC here, and its standard error is dropped, since it may hold the credential.
func (argv commandReader) read(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errSlow)
	defer cancel()
	stdout := capped{limit: maxCredential + len("\r\n")}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator's own argv, no shell
	cmd.Stdout = &stdout
	cmd.WaitDelay = waitDelay
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.buffer.Bytes(), nil
	case stdout.full: // and then killed, as nobody reads it any more
		err = errTooMuch
	case ctx.Err() != nil:
		err = fmt.Errorf("was stopped: %w", context.Cause(ctx))
	default:
		err = commandFault(err)
	}
	return nil, fmt.Errorf("command %s %w", argv.name(), err)
}

// commandFault says why a command gave nothing, without its arguments and output.
func commandFault(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return errors.New("ended, but left a process behind that holds its output open")
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Errorf("failed with exit code %d", exit.ExitCode())
	case errors.As(err, &exit):
		return errors.New("was killed")
	default:
		return fmt.Errorf("could not be started: %w", startFault(err))
	}
}

// startFault drops the path that os/exec puts in front: the command has been named.
func startFault(err error) error {
	if execError := (*exec.Error)(nil); errors.As(err, &execError) {
		return execError.Err
	}
	if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

var (
	errSlow    = errors.New("no answer within 10s")
	errTooMuch = errors.New("printed more than 64 KiB")
)

// capped keeps what is written and refuses what is beyond limit bytes. The buffer is no embedded
// one: its ReadFrom would go past Write.
type capped struct {
	buffer bytes.Buffer
	limit  int
	full   bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buffer.Len()+len(p) > c.limit {
		c.full = true
		return 0, errTooMuch
	}
	return c.buffer.Write(p)
}

type keyringReader string

func (entry keyringReader) String() string { return "keyring entry " + sanitize.Message(string(entry)) }

// read does not wait longer than readTimeout for a keyring that asks its user; once it is unlocked,
// the next read gets the value.
func (entry keyringReader) read(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errSlow)
	defer cancel()
	type answer struct {
		value string
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := keyring.Get(keyringService, string(entry))
		answers <- answer{value, err}
	}()
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: the keyring did not answer; is it locked? %w", entry, context.Cause(ctx))
	case a := <-answers:
		if errors.Is(a.err, keyring.ErrNotFound) {
			return nil, fmt.Errorf("%s of the service %s does not exist", entry, keyringService)
		}
		if a.err != nil {
			return nil, fmt.Errorf("%s: the keyring cannot be read: %w", entry, a.err)
		}
		return []byte(a.value), nil
	}
}
