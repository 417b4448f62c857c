package config

import (
	"errors"
	"path/filepath"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

// directories knows the user's directories on one operating system, from the environment alone.
type directories struct {
	system string // as runtime.GOOS
	getenv func(string) string
}

func (d directories) home() string {
	if d.system == "windows" {
		return d.getenv("USERPROFILE")
	}
	return d.getenv("HOME")
}

// defaultFile returns tokenreeve/config.json in the directory that os.UserConfigDir gives, or
// "" where there is none.
func (d directories) defaultFile() string {
	switch d.system {
	case "windows":
		return d.below(d.getenv("AppData"), "tokenreeve", "config.json")
	case "darwin", "ios":
		return d.below(d.home(), "Library", "Application Support", "tokenreeve", "config.json")
	}
	if dir := d.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return d.below(dir, "tokenreeve", "config.json")
	}
	return d.below(d.home(), ".config", "tokenreeve", "config.json")
}

// defaultState returns the state directory where nobody named one, or "" where there is no home.
func (d directories) defaultState() string {
	switch d.system {
	case "windows":
		return d.below(d.getenv("LocalAppData"), "tokenreeve")
	case "darwin", "ios":
		return d.below(d.home(), "Library", "Application Support", "tokenreeve")
	}
	// The convention of XDG: a relative path there is to be ignored.
	if dir := d.getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return d.below(dir, "tokenreeve")
	}
	return d.below(d.home(), ".local", "state", "tokenreeve")
}

func (d directories) below(dir string, parts ...string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

// absolute turns what a person typed in a shell into an absolute path: relative to the working
// directory, or with ~ for the home directory, which a client that starts us does not expand.
func (d directories) absolute(path string) (string, error) {
	if strings.ContainsRune(path, 0) {
		return "", errors.New("holds a NUL character")
	}
	if strings.HasPrefix(path, "~") {
		return trustedfile.Absolute(path, d.home())
	}
	return filepath.Abs(path)
}
