package telemetry

import "strings"

// classOf returns the class of an HTTP status: "2xx", and "429" by itself, since it is the vendor's
// budget that it tells of. What has no whole answer is "none".
func classOf(status int, failed string) string {
	switch {
	case failed != "" || status < 100 || status > 599:
		return "none"
	case status == 429:
		return "429"
	default:
		return string(rune('0'+status/100)) + "xx"
	}
}

// templateOf returns the path of a route such as "GET /tokens/{id}".
func templateOf(route string) string {
	_, path, _ := strings.Cut(route, " ")
	return path
}
