package check

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// broken is a change to a shipped file, and what the check says of it.
type broken struct {
	file     string // below the root
	was, is  string // of which the first one is replaced
	expected string
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	const server, proxy, policies = "deploy/kubernetes/server.yaml", "deploy/kubernetes/proxy.yaml", "deploy/kubernetes/networkpolicy.yaml"
	try(t, func(_ context.Context, root string) error { return kubernetes(filepath.Join(root, "deploy")) }, map[string]broken{
		"unknown field":        {server, "revisionHistoryLimit", "revisionHistoryLimits", "unknown field"},
		"wrong type":           {server, "replicas: 2", `replicas: "two"`, "cannot unmarshal"},
		"wrong word":           {server, "whenUnsatisfiable: ScheduleAnyway", "whenUnsatisfiable: Sometimes", "Unsupported value"},
		"other labels":         {server, "      labels: *labels", "      labels: {app: x}", "`selector` does not match template `labels`"},
		"unknown volume":       {server, "- name: config\n              mountPath", "- name: configs\n              mountPath", "Not found"},
		"no such port":         {server, "targetPort: http", "targetPort: 808080", "must be between 1 and 65535"},
		"root":                 {server, "runAsUser: 65532", "runAsUser: 0", "runAsUser"},
		"more privileges":      {server, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allowPrivilegeEscalation"},
		"capabilities":         {proxy, "drop: [ALL]", "drop: [NET_RAW]", "capabilities"},
		"no seccomp":           {server, "type: RuntimeDefault", "type: Unconfined", "seccomp"},
		"writable":             {server, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can be written"},
		"API token":            {server, "      automountServiceAccountToken: false", "      automountServiceAccountToken: true", "token of the cluster's API"},
		"no memory limit":      {proxy, "            limits:\n              memory: 256Mi", "            limits: {}", "not bounded"},
		"another probe":        {server, "path: /readyz", "path: /ready", "does not ask /readyz"},
		"another host":         {server, "value: tokenreeve.example.com", "value: other.example.com", "none of allowed_hosts"},
		"one replica":          {server, "replicas: 2", "replicas: 1", "less than two replicas"},
		"gap in updates":       {server, "maxUnavailable: 0", "maxUnavailable: 1", "takes a replica away"},
		"latest":               {proxy, "image: haproxy:3.0-alpine", "image: haproxy", "name a version"},
		"secret in plain":      {server, "- name: GOMEMLIMIT", "- name: MAILTRAP_API_TOKEN", "holds a secret"},
		"a Secret":             {"deploy/kubernetes/namespace.yaml", "kind: Namespace", "kind: Secret", "nobody here knows"},
		"secrets elsewhere":    {server, "mountPath: /run/secrets/tokenreeve", "mountPath: /run/secrets/other", "nothing is mounted"},
		"credential elsewhere": {"deploy/kubernetes/config.json", "/run/secrets/tokenreeve/mailtrap", "/etc/mailtrap", "secrets are in"},
		"network":              {policies, "cidr: 2000::/3", "cidr: 2000::/300", "Invalid value"},
		"open network":         {policies, "  podSelector: {}\n  policyTypes: [Ingress, Egress]\n", "  podSelector: {}\n  policyTypes: [Ingress]\n", "closes what the others do not open"},
		"budget for nobody":    {server, "  minAvailable: 1\n  selector:\n    matchLabels:\n", "  minAvailable: 1\n  selector:\n    matchLabels:\n      app: x\n", "selects no pods"},
		"missing file":         {"deploy/kustomization.yaml", "kubernetes/proxy.yaml", "kubernetes/proxies.yaml", "proxies.yaml"},
	})
}

func TestCompose(t *testing.T) {
	t.Parallel()
	const file = "deploy/compose.yaml"
	try(t, func(_ context.Context, root string) error { return compose(filepath.Join(root, file)) }, map[string]broken{
		"unknown key":         {file, "read_only: true", "readonly: true", "readonly false schema"},
		"wrong type":          {file, "shm_size: 128mb", "shm_size: [128mb]", "shm_size"},
		"undefined secret":    {file, "secrets: [tls.pem]", "secrets: [tls.key]", "undefined secret"},
		"undefined network":   {file, "networks: [front, proxy]", "networks: [back, proxy]", "undefined network"},
		"undefined service":   {file, "depends_on: [tokenreeve-1, tokenreeve-2]", "depends_on: [tokenreeve]", "tokenreeve"},
		"writable":            {file, "read_only: true", "read_only: false", "can be written"},
		"capabilities":        {file, "cap_drop: [ALL]", "cap_drop: [NET_RAW]", "keeps capabilities"},
		"new privileges":      {file, `["no-new-privileges:true"]`, "[]", "new privileges"},
		"root":                {file, `"${TOKENREEVE_UID:-1000}:${TOKENREEVE_GID:-1000}"`, `"0:0"`, "somebody else than root"},
		"no limits":           {file, "        memory: 256M\n", "", "not bounded"},
		"latest":              {file, "haproxy:3.0-alpine", "haproxy:latest", "name a version"},
		"secret in plain":     {file, "POSTGRES_PASSWORD_FILE: /run/secrets/postgres-password", "POSTGRES_PASSWORD: hunter2", "holds a secret"},
		"secret in the file":  {file, "    file: ./secrets/mailtrap", "    environment: MAILTRAP", "not a file"},
		"missing secret":      {file, "launchdarkly, mailtrap, vault-token]", "launchdarkly, vault-token]", "config.json wants /run/secrets/mailtrap"},
		"open database":       {file, "  database:\n    internal: true", "  database: {}", "leads out"},
		"another network":     {file, "10.231.83.0/28", "10.231.84.0/28", "trusted_proxies"},
		"without the proxy":   {file, "  command: [serve]", "  command: [serve]\n  ports: ['8080:8080']", "without the proxy"},
		"the proxy is lost":   {file, "aliases: [tokenreeve]", "aliases: [replicas]", "does not find it"},
		"the machine's names": {file, "    networks: [front, proxy]", "    network_mode: host", "machine's"},
	})
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	const file = "Dockerfile"
	try(t, func(_ context.Context, root string) error { return dockerfile(filepath.Join(root, file)) }, map[string]broken{
		"unknown instruction": {file, "WORKDIR /src", "WORKDIRS /src", "unknown instruction"},
		"unknown flag":        {file, "--chmod=0700", "--mode=0700", "unknown flag"},
		"missing stage":       {file, "COPY --from=build /out/tokenreeve", "COPY --from=2 /out/tokenreeve", "invalid stage index"},
		"lint":                {file, "AS build", "as build", "FromAsCasing"},
		"shell":               {file, `ENTRYPOINT ["/usr/bin/tokenreeve"]`, "ENTRYPOINT /usr/bin/tokenreeve", "JSONArgsRecommended"},
		"root":                {file, "USER 65532:65532", "USER 0:0", "the user is"},
		"named user":          {file, "USER 65532:65532", "USER nonroot", "the user is"},
		"a whole system":      {file, "FROM scratch", "FROM debian:12", "holds all of"},
		"latest":              {file, "golang:1.26.8-bookworm", "golang", "name a version"},
		"secret in the image": {file, "ENV XDG_CONFIG_HOME=/etc", "ENV MAILTRAP_API_TOKEN=x", "holds a secret"},
	})
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("haproxy"); err != nil {
		if os.Getenv("TOKENREEVE_TEST_HAPROXY") == "required" {
			t.Fatal(err)
		}
		t.Skip("haproxy is not installed")
	}
	const file = "deploy/haproxy.cfg"
	try(t, func(ctx context.Context, root string) error { return haproxy(ctx, filepath.Join(root, file)) }, map[string]broken{
		"unknown keyword":   {file, "option redispatch 1", "option redispatched", "unknown option"},
		"no such backend":   {file, "default_backend replicas", "default_backend servers", "unable to find required default_backend"},
		"no such resolvers": {file, "resolvers names resolve-prefer", "resolvers docker resolve-prefer", "unable to find required resolvers"},
		"warning":           {file, "    timeout client 12m\n", "", "timeout"},
		"repeats a change":  {file, "retry-on conn-failure", "retry-on all-retryable-errors", "send a change twice"},
		"logs sessions":     {file, "%HM %HPO", "%HM %HU", "sessions' ids"},
		"believes clients":  {file, "http-request set-header X-Forwarded-For", "http-request add-header X-Forwarded-For", "stays"},
	})
}

// try judges what is shipped, and it with each change.
func try(t *testing.T, judge func(ctx context.Context, root string) error, changes map[string]broken) {
	t.Helper()
	if err := judge(t.Context(), root); err != nil {
		t.Errorf("as shipped: %v", err)
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := copyShipped(t)
			path := filepath.Join(copied, change.file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(data), change.was) {
				t.Fatalf("%s does not hold %q", change.file, change.was)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(data), change.was, change.is, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			err = judge(t.Context(), copied)
			if err == nil || !strings.Contains(err.Error(), change.expected) {
				t.Errorf("the check says %v, want %q", err, change.expected)
			}
		})
	}
}

// copyShipped copies what the checks read to a directory of its own.
func copyShipped(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	for _, file := range []string{"Dockerfile", "deploy/compose.yaml", "deploy/config.json", "deploy/haproxy.cfg", "deploy/kustomization.yaml"} {
		copyFile(t, file, to)
	}
	manifests, err := filepath.Glob(root + "/deploy/kubernetes/*")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifests (%v)", err)
	}
	for _, manifest := range manifests {
		copyFile(t, "deploy/kubernetes/"+filepath.Base(manifest), to)
	}
	return to
}

func copyFile(t *testing.T, file, to string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(to, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
