package check

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// settings are what the checks need of a config.json. Whether all of it is valid the server's own tests
// tell.
type settings struct {
	Serve struct {
		AllowedHosts   []string `json:"allowed_hosts"`
		TrustedProxies []string `json:"trusted_proxies"`
	} `json:"serve"`

	files []string // of credentials
}

func readSettings(path string) (settings, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return settings{}, err
	}
	return parseSettings(data)
}

func parseSettings(data []byte) (settings, error) {
	var s settings
	if err := json.Unmarshal(data, &s); err != nil {
		return settings{}, fmt.Errorf("config.json: %w", err)
	}
	for _, file := range regexp.MustCompile(`"file": "([^"]+)"`).FindAllStringSubmatch(string(data), -1) {
		s.files = append(s.files, file[1])
	}
	return s, nil
}

// checkMounted reports the credentials of the configuration that are not in the directory's files.
func (s settings) checkMounted(dir string, names []string) []error {
	var problems []error
	for _, file := range s.files {
		if filepath.Dir(file) != dir || !slices.Contains(names, filepath.Base(file)) {
			problems = append(problems, fmt.Errorf("config.json wants %s, and %s holds %s", file, dir, strings.Join(names, ", ")))
		}
	}
	return problems
}

// checkImage wants a tag that does not move under us from one day to the next.
func checkImage(image string) error {
	_, tag, ok := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	if !ok || tag == "" || tag == "latest" {
		return fmt.Errorf("image %q: name a version", image)
	}
	return nil
}

// isSecretName reports whether a variable of that name holds a secret, rather than where one is.
func isSecretName(name string) bool {
	return regexp.MustCompile(`(?i)password|passwd|secret|token|credential|api_?key|database_url`).MatchString(name) && !strings.HasSuffix(name, "_FILE")
}
