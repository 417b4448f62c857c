package launchdarkly_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

// What access a change leads to, and whether it changes any; and that a plan is
// the same after it was kept as JSON.
func TestPlanGrant(t *testing.T) {
	t.Parallel()
	type change = launchdarkly.Change
	patch := func(text string) change {
		operations, err := launchdarkly.ParsePatch(text)
		if err != nil {
			t.Fatal(err)
		}
		return change{Patch: operations}
	}
	tests := map[string]struct {
		now     map[string]any
		change  change
		grant   string
		changes bool
	}{
		"name only":               {nil, change{Name: text("new <name>")}, "write", false},
		"the same role":           {nil, change{Role: text("writer")}, "write", false},
		"a weaker role":           {nil, change{Role: text("reader")}, "read", true},
		"a stronger role":         {nil, change{Role: text("admin")}, "admin", true},
		"custom roles":            {nil, change{CustomRoles: []string{roleID}}, "custom", true},
		"an inline role":          {nil, change{InlineRole: []launchdarkly.Statement{viewer}}, "inline", true},
		"custom roles as before":  {customRecord, change{Description: text("x")}, "custom", false},
		"inline to a role":        {inlineRecord, change{Role: text("reader")}, "read", true},
		"a raw patch":             {nil, patch(`[{"op":"replace","path":"/role","value":"admin"}]`), "admin", true},
		"a raw patch of the name": {inlineRecord, patch(`[{"op":"replace","path":"/name","value":"x"}]`), "inline", false},
		"a raw patch to custom": {
			nil, patch(`[{"op":"remove","path":"/role"},{"op":"add","path":"/customRoleIds","value":["` + roleID + `"]}]`), "custom", true,
		},
		"one more custom role": {customRecord, patch(`[{"op":"add","path":"/customRoleIds/-","value":"` + otherRole + `"}]`), "custom", true},
		"an owner's":           {map[string]any{"role": "owner"}, change{Name: text("x")}, "admin", false},
		"an unknown role":      {map[string]any{"role": "pilot"}, change{Name: text("x")}, "admin", false},
		"two kinds at once":    {map[string]any{"customRoleIds": []string{roleID}}, change{Name: text("x")}, "admin", false},
		"none at all":          {map[string]any{"role": absent}, change{Name: text("x")}, "admin", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := serve(t, reading(record(tt.now))).PlanUpdate(t.Context(), providers.Token{ID: tokenID}, tt.change)
			if err != nil {
				t.Fatal(err)
			}
			if plan.Grant() != tt.grant || plan.ChangesAccess() != tt.changes {
				t.Errorf("grants %s, changes access %v", plan.Grant(), plan.ChangesAccess())
			}
			kept, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			var again launchdarkly.Plan
			if err := json.Unmarshal(kept, &again); err != nil || again.ChangesAccess() != tt.changes {
				t.Errorf("read again, it changes access %v, %v", again.ChangesAccess(), err)
			}
			if !again.Before.SameAccess(&plan.Before) || !again.After.SameAccess(&plan.After) {
				t.Errorf("%+v is read with another access: %+v", plan, again)
			}
			again.Before.AccessKey, again.After.AccessKey = plan.Before.AccessKey, plan.After.AccessKey // kept as a digest
			if !reflect.DeepEqual(plan, again) {
				t.Errorf("%+v is read %+v", plan, again)
			}
		})
	}
	if (launchdarkly.Plan{}).Grant() != "admin" {
		t.Error("a plan that tells nothing grants less than everything")
	}
}
