package sink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	keyPlaceholder    = "{key}"
	secretPlaceholder = "{secret}"
	jsonPlaceholder   = "{secret_json}"

	execTimeout = 30 * time.Second
	// execWait is how long a command that was killed has to be gone.
	execWait = 2 * time.Second
)

var _ Sink = (*Exec)(nil)

// ExecOptions configure an exec sink.
type ExecOptions struct {
	// Argv is the command and its arguments. {key} in an argument is replaced by the key, and stays
	// inside that argument. The command is an absolute path or is found in PATH.
	Argv []string
	// Rotate is Argv for the next secret of a token whose last one went to the same key, where the
	// command to replace differs from the one to create. Empty means Argv.
	Rotate []string
	// Stdin is what the command reads: text in which {secret} stands for the secret, {secret_json} for
	// the secret as a JSON string with its quotes, and {key} for the key. Empty means the secret alone.
	Stdin string
	// Env names the environment variables that the command gets. It gets no others.
	Env []string
	// Timeout is how long the command may run; 0 means 30 s. Then it and its process group are killed.
	Timeout time.Duration
	// Accept must have key prefixes.
	Accept Accept
}

// Exec is a sink that hands a secret to a command on its standard input.
//
// The command runs without a shell, in the root directory, with an environment of named variables
// only. What it prints goes nowhere. Exit code 0 means delivered. An Exec cannot be read back, and
// cannot see whether a key exists: [Options].Known tells.
type Exec struct {
	door
	options ExecOptions
}

// NewExec returns the exec sink called name. The command is looked up by [Exec.Check].
func NewExec(name string, o ExecOptions) (*Exec, error) {
	d, err := newDoor(name, o.Accept)
	if err != nil {
		return nil, err
	}
	if err := joined(o.Faults()); err != nil {
		return nil, d.wrap(err)
	}
	o.Stdin = cmp.Or(o.Stdin, secretPlaceholder)
	o.Timeout = cmp.Or(o.Timeout, execTimeout)
	if len(o.Rotate) == 0 {
		o.Rotate = o.Argv
	}
	o.Argv, o.Rotate, o.Env = slices.Clone(o.Argv), slices.Clone(o.Rotate), slices.Clone(o.Env)
	return &Exec{d, o}, nil
}

// Faults returns what is wrong with o, but for what [Accept.Faults] says.
func (o ExecOptions) Faults() []Fault {
	var faults []Fault
	if len(o.Accept.Prefixes) == 0 {
		faults = append(faults, fault("accept.prefixes", "an exec sink must say which key prefixes it accepts, for example ci/"))
	}
	if o.Timeout < 0 {
		faults = append(faults, fault("timeout", "the timeout is negative; valid is for example 30s"))
	}
	stdin := cmp.Or(o.Stdin, secretPlaceholder)
	keyOnStdin := strings.Contains(stdin, keyPlaceholder)
	if err := checkArgv(o.Argv, keyOnStdin); err != nil {
		faults = append(faults, Fault{"argv", err})
	}
	if err := checkArgv(o.Rotate, keyOnStdin); err != nil && len(o.Rotate) > 0 {
		faults = append(faults, Fault{"rotate", err})
	}
	if strings.Count(stdin, secretPlaceholder)+strings.Count(stdin, jsonPlaceholder) != 1 {
		faults = append(faults, fault("stdin", "the standard input must hold {secret} or {secret_json} exactly once"))
	}
	for i, name := range o.Env {
		if !isVariable(name) || strings.Trim(name, wordCharacters) != "" {
			faults = append(faults, fault("env["+strconv.Itoa(i)+"]", "env lists the names of environment variables, for example HOME, and no values"))
		}
	}
	return faults
}

func checkArgv(argv []string, keyOnStdin bool) error {
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("there is no command; valid is a list of a command and its arguments")
	}
	if name := argv[0]; filepath.Base(name) != name && !filepath.IsAbs(name) {
		return errors.New("the command is a relative path; valid is a command found in PATH, or an absolute path")
	}
	if strings.Contains(argv[0], keyPlaceholder) {
		return errors.New("the command itself must not hold {key}; only its arguments may")
	}
	all := strings.Join(argv, "\x00")
	if strings.Contains(all, secretPlaceholder) || strings.Contains(all, jsonPlaceholder) {
		return errors.New("an argument holds {secret}: arguments are visible to all users; the secret goes to the standard input")
	}
	if !strings.Contains(all, keyPlaceholder) && !keyOnStdin {
		return errors.New("no argument holds {key}, so that all keys would be one")
	}
	return nil
}

// Check finds out whether the command exists. It does not run it.
func (e *Exec) Check(ctx context.Context, key Key, o Options) error {
	return e.wrap(e.check(ctx, key, o))
}

func (e *Exec) check(ctx context.Context, key Key, o Options) error {
	if err := errors.Join(ctx.Err(), e.admit(key, o)); err != nil {
		return err
	}
	if o.Known && !o.Successor {
		return keyExists(key)
	}
	argv := e.argv(key, o)
	if _, err := exec.LookPath(argv[0]); err != nil {
		return fmt.Errorf("command %s could not be started: %w", argv[0], startFault(err))
	}
	return nil
}

// Deliver runs the command. After an error it is not known whether the command stored the secret
// before it failed.
func (e *Exec) Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error) {
	if err := errors.Join(checkSecret(s), e.check(ctx, key, o)); err != nil {
		return Delivery{}, e.wrap(err)
	}
	stdin, err := e.stdin(key, s.Expose())
	if err != nil {
		return Delivery{}, e.wrap(err)
	}
	if err := e.run(ctx, e.argv(key, o), stdin); err != nil {
		return Delivery{}, e.wrap(err)
	}
	return Delivery{Sink: e.name, Key: key.String()}, nil
}

func (e *Exec) argv(key Key, o Options) []string {
	template := e.options.Argv
	if o.Successor {
		template = e.options.Rotate
	}
	argv := make([]string, len(template))
	for i, element := range template {
		argv[i] = strings.ReplaceAll(element, keyPlaceholder, key.String())
	}
	return argv
}

// stdin fills the secret in. Inside other text it must not be able to end where it stands.
func (e *Exec) stdin(key Key, value string) ([]byte, error) {
	if e.options.Stdin == secretPlaceholder {
		return []byte(value), nil
	}
	if !utf8.ValidString(value) {
		return nil, errors.New("the secret is not text, and the sink's standard input has text around it")
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, errors.New("the secret cannot be written as JSON") // not wrapped: the cause could quote it
	}
	if strings.Contains(e.options.Stdin, secretPlaceholder) {
		if written, err := quoted(value); err != nil || written != value {
			return nil, errors.New("the secret has characters that could end it early in the sink's standard input; use {secret_json} there, or {secret} alone")
		}
	}
	fill := strings.NewReplacer(keyPlaceholder, key.String(), secretPlaceholder, value, jsonPlaceholder, string(encoded))
	return []byte(fill.Replace(e.options.Stdin)), nil
}

func (e *Exec) run(ctx context.Context, argv []string, stdin []byte) error {
	slow := fmt.Errorf("it ran longer than %s", e.options.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, e.options.Timeout, slow)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the operator's own argv, no shell
	cmd.Stdin = bytes.NewReader(stdin)
	// A command that reads settings where it stands must not find those of the caller's project.
	cmd.Dir = filepath.VolumeName(os.TempDir()) + string(filepath.Separator)
	cmd.Env = e.environment()
	cmd.WaitDelay = execWait
	ownGroup(cmd)
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("command %s was stopped: %w", argv[0], context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("command %s %w", argv[0], commandFault(err))
	}
	return nil
}

// environment is never nil, which would stand for all of this process's variables.
func (e *Exec) environment() []string {
	env := []string{}
	for _, name := range e.options.Env {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// commandFault says how a command failed, without its arguments and output.
func commandFault(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return errors.New("ended, but left a process behind that holds its input open")
	case errors.As(err, &exit) && exit.Exited():
		return fmt.Errorf("failed with exit code %d", exit.ExitCode())
	case errors.As(err, &exit):
		return errors.New("was killed")
	default:
		return fmt.Errorf("could not be started: %w", startFault(err))
	}
}

// startFault drops what os/exec puts in front: the command has been named.
func startFault(err error) error {
	if execError := (*exec.Error)(nil); errors.As(err, &execError) {
		err = execError.Err
	}
	if pathError := (*os.PathError)(nil); errors.As(err, &pathError) {
		err = pathError.Err
	}
	return err
}
