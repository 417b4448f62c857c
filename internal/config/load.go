package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

// maxFile caps config.json, in bytes.
const maxFile = 1 << 20

// The environment variables that stand for a flag.
const (
	envConfig    = "TOKENREEVE_CONFIG"
	envStateDir  = "TOKENREEVE_STATE_DIR"
	envReadOnly  = "TOKENREEVE_READ_ONLY"
	envLogLevel  = "TOKENREEVE_LOG_LEVEL"
	envLogFormat = "TOKENREEVE_LOG_FORMAT"
)

// Options are the flags and the surroundings. An empty text means that the flag was not given.
type Options struct {
	ConfigFile string // --config
	StateDir   string // --state-dir
	ReadOnly   *bool  // --read-only
	LogLevel   string // --log-level
	LogFormat  string // --log-format

	// Serve are the flags of the command that serves, nil for any other.
	Serve *ServeFlags

	// Getenv reads the environment; nil stands for os.Getenv. An empty variable counts as unset.
	Getenv func(name string) string
	// Stdio says that a local user is served, who gets a file sink without configuring one. With the
	// flags of the command that serves, it says so where nothing is listened on.
	Stdio bool
}

// loader gathers a configuration and everything that is wrong with it.
type loader struct {
	options  Options
	getenv   func(string) string
	dirs     directories
	config   Config
	present  places // the members that stand in the file
	problems report
}

// Load returns the configuration. Its error is a *Problems, which holds all that is wrong.
func Load(o Options) (Config, error) {
	l := newLoader(o)
	l.gather()
	if len(l.problems.list) > 0 {
		return Config{}, &Problems{File: l.config.File, List: l.problems.list}
	}
	l.fillIn()
	return l.config, nil
}

func (l *loader) gather() {
	l.config.setDefaults()
	l.readFile()
	l.applyEnvironment()
	l.applyFlags()
	l.findStateDir()
}

func newLoader(o Options) *loader {
	getenv := o.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	return &loader{
		options: o, getenv: getenv, dirs: directories{system: runtime.GOOS, getenv: getenv},
		present: places{}, problems: report{at: places{}},
	}
}

// readFile reads config.json from where a flag or the environment says, else from the user's
// configuration directory, where it may be missing. The working directory never counts: a cloned
// repository must not be able to configure us. Only where no
// file is does the environment make connections: one left over from elsewhere adds nothing to a file.
func (l *loader) readFile() {
	place, name := "--config", l.options.ConfigFile
	if name == "" {
		place, name = envConfig, l.getenv(envConfig)
	}
	optional := name == ""
	if optional {
		place, name = "config.json", l.dirs.defaultFile()
	}
	if name == "" {
		l.addVendors()
		return
	}
	file, err := l.dirs.absolute(name)
	if err != nil {
		l.problems.add(place, "%v", err)
		return
	}
	data, err := trustedfile.Read(file, maxFile)
	if optional && errors.Is(err, fs.ErrNotExist) {
		l.addVendors()
		return
	}
	if err != nil {
		l.problems.add(place, "%v", err)
		return
	}
	l.config.File = file
	if decode(data, &l.config, l.present, &l.problems) {
		l.check()
	}
}

func (l *loader) applyEnvironment() {
	if value := l.getenv(envReadOnly); value != "" {
		readOnly, err := strconv.ParseBool(value)
		if err != nil {
			l.problems.add(envReadOnly, "is %s; valid: true, false", quote(value))
		}
		l.config.ReadOnly = readOnly
	}
	if value := l.getenv(envLogLevel); value != "" {
		l.config.Log.Level = value
		checkOneOf(&l.problems, envLogLevel, value, logLevels())
	}
	if value := l.getenv(envLogFormat); value != "" {
		l.config.Log.Format = value
		checkOneOf(&l.problems, envLogFormat, value, logFormats())
	}
}

func (l *loader) applyFlags() {
	if l.options.ReadOnly != nil {
		l.config.ReadOnly = *l.options.ReadOnly
	}
	if value := l.options.LogLevel; value != "" {
		l.config.Log.Level = value
		checkOneOf(&l.problems, "--log-level", value, logLevels())
	}
	if value := l.options.LogFormat; value != "" {
		l.config.Log.Format = value
		checkOneOf(&l.problems, "--log-format", value, logFormats())
	}
	if l.options.Serve != nil {
		l.applyServeFlags(*l.options.Serve)
	}
}

func (l *loader) findStateDir() {
	place, name := "--state-dir", l.options.StateDir
	if name == "" {
		place, name = envStateDir, l.getenv(envStateDir)
	}
	if name == "" {
		name = l.dirs.defaultState()
	}
	if name == "" && l.config.State.IsShared() {
		return
	}
	if name == "" {
		l.problems.add(place, "no home directory is known to keep state in; set %s", envStateDir)
		return
	}
	dir, err := l.dirs.absolute(name)
	if err != nil {
		l.problems.add(place, "%v", err)
		return
	}
	l.config.StateDir = dir
}

// fillIn completes a valid configuration.
func (l *loader) fillIn() {
	c := &l.config
	if len(c.Sinks) == 0 && c.StateDir != "" && !c.State.IsShared() && l.options.Stdio && (l.options.Serve == nil || c.Serve.Listen == "") {
		c.Sinks = map[string]Sink{"files": {Type: FileSink, Directory: filepath.Join(c.StateDir, "secrets")}}
	}
	if len(c.Sinks) == 1 {
		for name := range c.Sinks {
			c.DefaultSink = name
		}
	}
	for name, connection := range c.Connections {
		if connection.Sink == "" && connection.mints() {
			connection.Sink = c.DefaultSink
		}
		if connection.Provider == Mailtrap {
			connection.PathFamily = orElse(connection.PathFamily, "account")
			connection.ResourceWords = orElse(connection.ResourceWords, "current")
		}
		c.Connections[name] = connection
	}
	c.Auth.OIDC.fillIn()
	if len(c.Connections) == 0 {
		c.Setup = l.setup()
	}
}

func orElse(value, other string) string {
	if value == "" {
		return other
	}
	return value
}
