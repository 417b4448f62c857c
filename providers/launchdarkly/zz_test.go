package launchdarkly

import (
	"encoding/json"
	"os"
	"testing"
)

func BenchmarkZToToken(b *testing.B) {
	data, _ := os.ReadFile("/tmp/page.json")
	var c collection
	if err := json.Unmarshal(data, &c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range c.Items {
			c.Items[i].toToken()
		}
	}
}

func BenchmarkZDecode(b *testing.B) {
	data, _ := os.ReadFile("/tmp/page.json")
	b.ReportAllocs()
	for b.Loop() {
		var c collection
		if err := json.Unmarshal(data, &c); err != nil {
			b.Fatal(err)
		}
	}
}
