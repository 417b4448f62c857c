package mailtrap

import "strconv"

// The access levels. Only viewer and admin can be written.
const (
	levelViewer     = 10
	levelViewerPlus = 50
	levelAdmin      = 100
)

// level returns the access level, 0 where it is no number.
func (p permission) level() int {
	level, err := strconv.Atoi(string(p.Level))
	if err != nil {
		return 0
	}
	return level
}

// levelWord returns the vendor's word for a level, or the level itself.
func levelWord(level text) string {
	switch level {
	case "1":
		return "indeterminate"
	case "10":
		return "viewer"
	case "50":
		return "viewer plus"
	case "100":
		return "admin"
	case "1000":
		return "owner"
	case "":
		return "unknown"
	default:
		return string(level)
	}
}

// writableLevel returns the level of a word or number that can be written.
func writableLevel(s string) (level int, ok bool) {
	switch s {
	case "viewer", "10":
		return levelViewer, true
	case "admin", "100":
		return levelAdmin, true
	default:
		return 0, false
	}
}

// currentWord returns the current word for a type of resource that permissions
// can be given on; older words are synonyms.
func currentWord(word string) (current string, ok bool) {
	switch word {
	case "account", "project", "sandbox", "domain":
		return word, true
	case "inbox":
		return "sandbox", true
	case "sending_domain":
		return "domain", true
	default:
		return "", false
	}
}

// sentWord returns the word to send for a current one.
func sentWord(current, words string) string {
	switch {
	case words == ResourceWordsOld && current == "sandbox":
		return "inbox"
	case words == ResourceWordsOld && current == "domain":
		return "sending_domain"
	default:
		return current
	}
}
