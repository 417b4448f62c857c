package sink

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

// maxDotenv caps a dotenv file, in bytes.
const maxDotenv = 1 << 20

var (
	_ Sink   = (*Dotenv)(nil)
	_ Holder = (*Dotenv)(nil)
)

// Dotenv is a sink that keeps secrets as variables in dotenv files below one directory.
//
// The key ci/prod.env/LD_TOKEN is the variable LD_TOKEN in the file prod.env in the directory ci. A
// variable that the file has is replaced where it stands, a new one is added at the end; all other
// lines stay as they are, byte by byte. A file is replaced as a whole, has mode 0600 and must not be
// open to others before. No symbolic link is followed.
//
// Deliveries keep each other out, those of other processes included (except on Windows). An editor
// that saves the same file at the same time is not kept out.
type Dotenv struct {
	door
	directory string
	// mu stands in for the lock between processes where the system has none.
	mu sync.Mutex
}

// NewDotenv returns the dotenv sink called name for the files below directory, an absolute path.
// Nothing is read or made yet; [Dotenv.Check] does that.
func NewDotenv(name, directory string, accept Accept) (*Dotenv, error) {
	d, err := newDoor(name, accept)
	if err != nil {
		return nil, err
	}
	directory, err = absolute(directory)
	if err != nil {
		return nil, d.wrap(err)
	}
	return &Dotenv{door: d, directory: directory}, nil
}

// Check finds out whether Deliver can write key, by really writing and removing a file beside the
// dotenv file. It makes the directories that are missing.
func (d *Dotenv) Check(ctx context.Context, key Key, o Options) error {
	file, err := d.ensure(ctx, key, o)
	if err != nil {
		return d.wrap(err)
	}
	defer file.dir.Close()
	content, err := file.read()
	if err != nil {
		return d.wrap(err)
	}
	found, err := find(content, file.variable)
	if err != nil {
		return d.wrap(err)
	}
	if found != nil && !o.Successor {
		return d.wrap(keyExists(key))
	}
	return d.wrap(file.dir.Probe())
}

// Deliver writes s as the key's variable; the file is on disk when Deliver returns. On an error the
// file is as it was.
func (d *Dotenv) Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error) {
	if err := checkSecret(s); err != nil {
		return Delivery{}, d.wrap(err)
	}
	value, err := quoted(s.Expose())
	if err != nil {
		return Delivery{}, d.wrap(err)
	}
	file, err := d.ensure(ctx, key, o)
	if err != nil {
		return Delivery{}, d.wrap(err)
	}
	defer file.dir.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := file.set(ctx, key, value, s, o); err != nil {
		return Delivery{}, d.wrap(err)
	}
	return Delivery{Sink: d.name, Key: key.String(), Path: filepath.Join(file.dir.Path(), file.name)}, nil
}

// Holds reports whether the delivery's variable has a value with this SHA-256. A missing file or
// variable is false.
func (d *Dotenv) Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error) {
	if err := errors.Join(ctx.Err(), d.owns(delivery)); err != nil {
		return false, d.wrap(err)
	}
	key, err := ParseKey(delivery.Key)
	if err != nil {
		return false, d.wrap(err)
	}
	file, err := d.locate(key, func(directory string, segments []string) (*privatefile.Dir, string, error) {
		return walk(directory, segments, (*privatefile.Dir).Sub)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, d.wrap(err)
	}
	defer file.dir.Close()
	content, err := file.read()
	if err != nil {
		return false, d.wrap(err)
	}
	found, err := find(content, file.variable)
	if err != nil || found == nil {
		return false, d.wrap(err)
	}
	held := sha256.Sum256([]byte(found.value))
	return subtle.ConstantTimeCompare(held[:], digest[:]) == 1, nil
}

func (d *Dotenv) ensure(ctx context.Context, key Key, o Options) (dotenvFile, error) {
	if err := errors.Join(ctx.Err(), d.admit(key, o)); err != nil {
		return dotenvFile{}, err
	}
	return d.locate(key, ensure)
}

// locate parts a key into file and variable, and opens the directory of the file.
func (d *Dotenv) locate(key Key, open func(directory string, segments []string) (*privatefile.Dir, string, error)) (dotenvFile, error) {
	segments := key.Segments()
	last := len(segments) - 1
	if last < 1 || !isVariable(segments[last]) {
		return dotenvFile{}, errors.New("the key of a dotenv sink is FILE/VARIABLE, for example prod.env/LD_TOKEN; a variable has letters, digits and _, no digit first")
	}
	dir, name, err := open(d.directory, segments[:last])
	return dotenvFile{dir, name, segments[last]}, err
}

func isVariable(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && !strings.ContainsAny(s, ".-")
}

// dotenvFile is one variable in one file.
type dotenvFile struct {
	dir      *privatefile.Dir
	name     string
	variable string
}

// read returns the file's content, nothing for a missing file.
func (f dotenvFile) read() (string, error) {
	data, err := f.dir.Read(f.name, maxDotenv)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}

// set gives the variable the value of s, which is written as value.
func (f dotenvFile) set(ctx context.Context, key Key, value string, s secret.Secret, o Options) error {
	unlock, err := f.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	content, err := f.read()
	if err != nil {
		return err
	}
	found, err := find(content, f.variable)
	if err != nil {
		return err
	}
	if found != nil && secret.New(found.value).Equal(s) {
		return nil
	}
	if found != nil && !o.Successor {
		return keyExists(key)
	}
	if found != nil {
		content = content[:found.start] + value + content[found.end:]
	} else {
		content = appended(content, f.variable+"="+value)
	}
	if len(content) > maxDotenv {
		return fmt.Errorf("the file would have more than %d KiB", maxDotenv>>10)
	}
	return f.dir.Replace(f.name, []byte(content))
}

// appended adds a line at the end, with the line end that the file uses.
func appended(content, line string) string {
	end := "\n"
	if strings.Contains(content, "\r\n") {
		end = "\r\n"
	}
	if content != "" && !strings.HasSuffix(content, "\n") {
		content += end
	}
	return content + line + end
}

// quoted writes a value so that shells and the usual dotenv readers all read the same. They differ
// on escapes, so that what needs one is refused.
func quoted(value string) (string, error) {
	plain := func(r rune) bool { return isWord(r) || strings.ContainsRune("./:@%+=,-", r) }
	printable := func(r rune) bool { return r >= ' ' && r <= '~' && r != '\\' }
	all := func(is func(rune) bool) bool {
		return strings.IndexFunc(value, func(r rune) bool { return !is(r) }) < 0
	}
	switch {
	case all(plain):
		return value, nil
	case all(printable) && !strings.Contains(value, "'"):
		return "'" + value + "'", nil
	case all(printable) && !strings.ContainsAny(value, "\"$`"):
		return `"` + value + `"`, nil
	}
	return "", errors.New("the secret has characters that the readers of dotenv files understand differently; deliver it to a file sink with raw format")
}

// assignment is a variable in a dotenv file: its value, and where that is written.
type assignment struct {
	value      string
	start, end int
}

// find returns the assignment of variable, nil when there is none. Two are an error: which one counts
// differs between readers.
func find(content, variable string) (*assignment, error) {
	var found *assignment
	for at := 0; at < len(content); {
		name, a := scan(content, at)
		if name == variable && found != nil {
			return nil, fmt.Errorf("the variable %s stands in the file twice; remove one of the two", variable)
		}
		if name == variable {
			found = &a
		}
		at = lineEnd(content, a.end) + 1
	}
	return found, nil
}

// scan reads the line at at, and those that a quoted value reaches into. The name is "" when the line
// is no assignment.
func scan(content string, at int) (string, assignment) {
	end := lineEnd(content, at)
	left, right, found := strings.Cut(content[at:end], "=")
	name := strings.TrimSpace(left)
	if after, ok := strings.CutPrefix(name, "export"); ok && strings.TrimLeft(after, " \t") != after {
		name = strings.TrimSpace(after)
	}
	if !found || strings.Trim(name, wordCharacters) != "" {
		return "", assignment{end: end}
	}
	start := at + len(left) + 1
	blank := len(right) - len(strings.TrimLeft(right, " \t"))
	if quote := start + blank; quote < end && strings.ContainsRune("'\"`", rune(content[quote])) {
		if closing := closingQuote(content, quote); closing > 0 {
			end = trimmedEnd(content, lineEnd(content, closing))
			return name, assignment{content[quote+1 : closing], start, end}
		}
	}
	end = trimmedEnd(content, end)
	value, _, _ := strings.Cut(content[start:end], " #")
	return name, assignment{strings.TrimSpace(value), start, end}
}

const wordCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

// closingQuote returns where the quote at at ends, 0 when it does not: what follows on its line can
// only be a comment.
func closingQuote(content string, at int) int {
	for i := at + 1; i < len(content); i++ {
		switch {
		case content[i] == content[at]:
			rest := strings.TrimSpace(content[i+1 : lineEnd(content, i)])
			if rest != "" && rest[0] != '#' {
				return 0
			}
			return i
		case content[i] == '\\' && content[at] == '"':
			i++
		}
	}
	return 0
}

// lineEnd returns where the line at at ends, before its line break.
func lineEnd(content string, at int) int {
	if i := strings.IndexByte(content[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(content)
}

// trimmedEnd leaves out the carriage return before a line break.
func trimmedEnd(content string, end int) int {
	if end > 0 && content[end-1] == '\r' {
		return end - 1
	}
	return end
}
