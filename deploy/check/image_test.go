package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"debug/elf"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// image is what the Dockerfile makes, unpacked.
type image struct {
	root  string
	env   []string
	entry []string
	user  string // UID:GID
}

// TestImage builds the image without a container engine: the Dockerfile's own commands, on what the
// .dockerignore lets through, with this machine in the place of the build stage's base. It then runs
// the binary as a cluster would: nothing but the image's files, which cannot be written, no home, no
// user's name, and secrets that belong to root.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		const reason = "only root on Linux can run a command in another root directory"
		if os.Getenv("TOKENREEVE_TEST_IMAGE") == "required" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	i := build(t)
	t.Run("binary", func(t *testing.T) { t.Parallel(); i.checkStatic(t) })
	t.Run("authorities", func(t *testing.T) { t.Parallel(); i.checkAuthorities(t) })
	t.Run("version", func(t *testing.T) {
		t.Parallel()
		if out := i.output(t, i.user, "version"); !strings.Contains(out, "v1.2.3-image") {
			t.Errorf("it says %s", out)
		}
	})
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		if out := i.output(t, i.user, "--demo", "call", "count_tokens", "group_by=connection"); !strings.Contains(out, "launchdarkly") {
			t.Errorf("it says %s", out)
		}
	})
	for _, user := range []string{i.user, "1000:1000"} { // the cluster's, and that of compose.yaml
		t.Run("serve as "+user, func(t *testing.T) { t.Parallel(); i.checkServes(t, user) })
	}
}

// checkStatic wants a binary that needs no other file.
func (i *image) checkStatic(t *testing.T) {
	binary, err := elf.Open(filepath.Join(i.root, i.entry[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	libraries, err := binary.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v (%v)", libraries, err)
	}
	if slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("it needs a dynamic linker")
	}
}

// checkAuthorities wants certificates where Go looks for them.
func (i *image) checkAuthorities(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(i.root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(data) {
		t.Errorf("no certificates: %v", err)
	}
}

// checkServes starts the server, asks it, and stops it.
func (i *image) checkServes(t *testing.T, user string) {
	cmd := i.command(t.Context(), user, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--allowed-hosts", "tokenreeve.example.com")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	url := ""
	for lines := bufio.NewScanner(io.TeeReader(stderr, &said)); url == "" && lines.Scan(); {
		if serves := regexp.MustCompile(`tokenreeve serves (http://\S+)/`).FindStringSubmatch(lines.Text()); serves != nil {
			url = serves[1]
		}
	}
	if url != "" {
		go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the process
		for _, path := range []string{"/healthz", "/readyz"} {
			if got := ask(t, url+path); got != http.StatusOK {
				t.Errorf("%s: status %d", path, got)
			}
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	if err := cmd.Wait(); err != nil || url == "" {
		t.Errorf("it ended with %v and said:\n%s", err, said.String())
	}
}

func ask(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "tokenreeve.example.com"
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func (i *image) output(t *testing.T, user string, args ...string) string {
	t.Helper()
	out, err := i.command(t.Context(), user, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v", args, err)
	}
	return string(out)
}

// command runs the image's entry point with its files alone, of which only /tmp can be written.
func (i *image) command(ctx context.Context, user string, args ...string) *exec.Cmd {
	const script = `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t tmpfs -o mode=1777 tmpfs "$0/tmp" && exec chroot --groups= --userspec="$@"`
	cmd := exec.CommandContext(ctx, "unshare", slices.Concat([]string{"--mount", "sh", "-c", script, i.root, user, i.root}, i.entry, args)...)
	cmd.Env = i.env
	return cmd
}

// build carries out the Dockerfile.
func build(t *testing.T) *image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages, err := readStages(data)
	if err != nil || len(stages) != 2 {
		t.Fatalf("%d stages, want 2 (%v)", len(stages), err)
	}
	source, out := buildContext(t), t.TempDir()
	for _, command := range stages[0].Commands {
		if run, ok := command.(*instructions.RunCommand); ok {
			runIn(t, source, strings.ReplaceAll(strings.Join(run.CmdLine, " "), "/out", out))
		}
	}
	i := &image{root: t.TempDir()}
	if err := os.Chmod(i.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range stages[1].Commands {
		switch c := command.(type) {
		case *instructions.CopyCommand:
			i.copy(t, c, out)
		case *instructions.EnvCommand:
			for _, variable := range c.Env {
				i.env = append(i.env, variable.String())
			}
		case *instructions.UserCommand:
			i.user = c.User
		case *instructions.EntrypointCommand:
			i.entry = c.CmdLine
		}
	}
	i.mount(t)
	return i
}

// mount puts configuration and secrets where deploy/kubernetes mounts them, as the kubelet does: root's,
// for the pod's group to read. State is in files here, since there is no database.
func (i *image) mount(t *testing.T) {
	t.Helper()
	settings, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"etc/tokenreeve/config.json": string(bytes.Replace(settings, []byte(`"postgres": {"file": "/run/secrets/tokenreeve/database-url"},`), nil, 1))}
	files["run/secrets/tokenreeve/state-keys"] = i.newKeys(t)
	for _, name := range []string{"atlassian", "launchdarkly", "mailtrap", "vault-token"} {
		files["run/secrets/tokenreeve/"+name] = "a credential that nobody is shown"
	}
	for name, content := range files {
		path := filepath.Join(i.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o440); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o444); err != nil {
			t.Fatal(err)
		}
	}
}

// newKeys makes the keys that replicas share, as docs/deploy.md says.
func (i *image) newKeys(t *testing.T) string {
	t.Helper()
	keys, err := i.command(t.Context(), "1000:1000", "state", "new-keys").Output()
	if err != nil || !strings.Contains(string(keys), "AGE-SECRET-KEY-") {
		t.Fatalf("no keys: %v", err)
	}
	return string(keys)
}

// runIn runs a command of the build stage as its base image would.
func runIn(t *testing.T, dir, command string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "VERSION=v1.2.3-image", "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// buildContext copies what .dockerignore lets through.
func buildContext(t *testing.T) string {
	t.Helper()
	ignored, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer ignored.Close()
	patterns, err := ignorefile.ReadAll(ignored)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		isIgnored, err := matcher.MatchesOrParentMatches(name)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && isIgnored && !strings.Contains(name, "/"): // no exception leads into these
			return filepath.SkipDir
		case isIgnored || !entry.Type().IsRegular():
			return nil
		}
		return copyTo(path, filepath.Join(to, name))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".git", "deploy", "README.md"} {
		if _, err := os.Stat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s goes into the build", name)
		}
	}
	return to
}

// copy carries out COPY --from of one file or empty directory.
func (i *image) copy(t *testing.T, c *instructions.CopyCommand, out string) {
	t.Helper()
	from, to := c.SourcePaths[0], filepath.Join(i.root, c.DestPath)
	if rest, ok := strings.CutPrefix(from, "/out/"); ok {
		from = filepath.Join(out, rest)
	}
	info, err := os.Stat(from)
	if err == nil && info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else if err == nil {
		err = copyTo(from, to)
	}
	if err == nil {
		err = os.Chmod(to, info.Mode())
	}
	if err == nil && c.Chmod != "" {
		err = exec.CommandContext(t.Context(), "chmod", c.Chmod, to).Run()
	}
	if err == nil && c.Chown != "" {
		uid, gid, _ := strings.Cut(c.Chown, ":")
		err = os.Chown(to, number(t, uid), number(t, gid))
	}
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(fmt.Errorf("no name means anything in the image: %w", err))
	}
	return n
}

func copyTo(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
