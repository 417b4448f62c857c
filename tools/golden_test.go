package tools_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

//go:generate go test -run ^TestGolden$ . -update

// TestGolden compares the whole public face of each tool with its golden file,
// and each golden file with a tool: go test ./tools -run TestGolden -update.
func TestGolden(t *testing.T) {
	t.Parallel()
	faces := map[string][]byte{}
	for _, d := range start(t, setup{}).definitions() {
		faces[goldenFile(d.Name)] = face(t, d)
	}
	if *updateGolden {
		writeGolden(t, faces)
	}
	files, err := filepath.Glob(goldenFile("*"))
	must(t, 0, err)
	for _, file := range files {
		if faces[file] == nil {
			t.Errorf("%s is of no tool", file)
		}
	}
	for file, got := range faces {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("no golden file: %v", err)
			continue
		}
		if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
			t.Errorf("%s (-golden +tool):\n%s", file, diff)
		}
	}
}

func goldenFile(tool string) string { return filepath.Join("testdata", "golden", tool+".json") }

// face is all that a client sees of a tool, in the order in which it is sent.
func face(t *testing.T, d definition) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(compactJSON(t, d)), "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func writeGolden(t *testing.T, faces map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(filepath.Dir(goldenFile("x"))); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(goldenFile("x")), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, data := range faces {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
