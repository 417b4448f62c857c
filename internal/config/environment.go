package config

import (
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

// maxVariableFile caps a file that an environment variable names, in bytes. It holds an id or a URL.
const maxVariableFile = 4 << 10

// vendor is what the environment can say of one vendor when there is no file.
type vendor struct {
	provider       string // also the connection's name
	title          string
	credential     string // the variable of the credential
	userManagement string // the variable of a second credential, "" where there is none
	account        string // the variable of the account's id, "" where none is needed
	baseURL        string
}

func vendors() []vendor {
	return []vendor{
		{
			provider: Atlassian, title: "Atlassian Cloud", credential: "ATLASSIAN_ADMIN_TOKEN", account: "ATLASSIAN_ORG_ID",
			userManagement: "ATLASSIAN_USER_MANAGEMENT_TOKEN", baseURL: "ATLASSIAN_BASE_URL",
		},
		{provider: LaunchDarkly, title: "LaunchDarkly", credential: "LAUNCHDARKLY_ACCESS_TOKEN", baseURL: "LAUNCHDARKLY_BASE_URL"},
		{
			provider: Mailtrap, title: "Mailtrap", credential: "MAILTRAP_API_TOKEN", account: "MAILTRAP_ACCOUNT_ID",
			baseURL: "MAILTRAP_BASE_URL",
		},
	}
}

// needs names the variables that make a connection.
func (v vendor) needs() string {
	if v.account == "" {
		return v.credential
	}
	return v.credential + " and " + v.account
}

// addVendors makes a connection for each vendor of which the environment holds enough, and a problem
// where it holds half.
func (l *loader) addVendors() {
	connections := map[string]Connection{}
	for _, v := range vendors() {
		if connection, ok := l.vendorConnection(v); ok {
			connections[v.provider] = connection
		}
	}
	l.config.Connections = connections
}

func (l *loader) vendorConnection(v vendor) (Connection, bool) {
	connection := Connection{Provider: v.provider}
	connection.setDefaults()
	connection.Credential = l.variableReference(v.credential)
	connection.UserManagementCredential = l.variableReference(v.userManagement)
	account, hasAccount := l.variable(v.account)
	connection.BaseURL, _ = l.variable(v.baseURL)
	if connection.Credential.IsZero() && !hasAccount && connection.UserManagementCredential.IsZero() {
		return Connection{}, false // a base URL alone is no wish for a connection
	}
	if connection.Credential.IsZero() {
		l.problems.add(v.credential, "is not set; %s needs %s", v.title, v.needs())
	}
	if v.account != "" && !hasAccount {
		l.problems.add(v.account, "is not set; %s needs %s", v.title, v.needs())
	}
	if hasAccount {
		l.setAccount(&connection, v.account, account)
	}
	if connection.BaseURL != "" {
		checkBaseURL(&l.problems, v.baseURL, connection.BaseURL)
	}
	return connection, true
}

func (l *loader) setAccount(c *Connection, variable, account string) {
	if c.Provider == Atlassian {
		c.OrgID = account
		checkOrgID(&l.problems, variable, account)
		return
	}
	id, err := strconv.ParseInt(account, 10, 64)
	if err != nil || id < 1 {
		l.problems.add(variable, "is not an account id; valid: %s", validAccountID)
	}
	c.AccountID = id
}

// variable returns the value of the variable, or the content of the file that NAME_FILE names, and
// whether either is set to something that can be read.
func (l *loader) variable(name string) (value string, ok bool) {
	if name == "" {
		return "", false
	}
	file := l.variableFile(name)
	if file == "" {
		return l.getenv(name), l.getenv(name) != ""
	}
	data, err := trustedfile.Read(file, maxVariableFile)
	if err != nil {
		l.problems.add(name, "cannot be read from %s_FILE: %v", name, err)
	}
	return strings.TrimSpace(string(data)), err == nil
}

// variableReference refers to the variable, or to the file that NAME_FILE names.
func (l *loader) variableReference(name string) auth.Reference {
	if name == "" {
		return auth.Reference{}
	}
	if file := l.variableFile(name); file != "" {
		return auth.Reference{File: file}
	}
	if l.getenv(name) != "" {
		return auth.Reference{Env: name}
	}
	return auth.Reference{}
}

// variableFile returns the absolute path in NAME_FILE, or "".
func (l *loader) variableFile(name string) string {
	place := name + "_FILE"
	path := l.getenv(place)
	if path == "" {
		return ""
	}
	if l.getenv(name) != "" {
		l.problems.add(place, "is set, and %s as well; valid: one of them", name)
		return ""
	}
	file, err := trustedfile.Absolute(path, l.dirs.home())
	if err != nil {
		l.problems.add(place, "%v", err)
		return path
	}
	return file
}

// setup says what to set to have a connection.
func (l *loader) setup() []string {
	if l.config.File != "" {
		return []string{"Add a connection under \"connections\" in " + l.config.File + "; config.json.example shows how."}
	}
	var lines []string
	for _, v := range vendors() {
		lines = append(lines, "For "+v.title+" set "+v.needs()+" in the server's environment.")
	}
	if file := l.dirs.defaultFile(); file != "" {
		lines = append(lines, "For several accounts, or a policy, write "+file+" instead; config.json.example shows how.")
	}
	return lines
}
