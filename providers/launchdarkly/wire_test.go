package launchdarkly

import "reflect"

// Received are the types that LaunchDarkly's answers are decoded into.
func Received() map[string]reflect.Type {
	return map[string]reflect.Type{
		"page": reflect.TypeFor[collection](), "record": reflect.TypeFor[record](), "caller": reflect.TypeFor[caller](),
		"members": reflect.TypeFor[members](),
	}
}
