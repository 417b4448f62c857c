package atlassian

import "reflect"

// Received are the types that Atlassian's answers are decoded into.
func Received() map[string]reflect.Type {
	return map[string]reflect.Type{
		"page": reflect.TypeFor[tokenPage](), "list": reflect.TypeFor[[]*accessToken](), "user": reflect.TypeFor[[]*userToken](),
		"counts": reflect.TypeFor[serviceCounts](), "count": reflect.TypeFor[int](), "problem": reflect.TypeFor[problemBody](),
		"keys": reflect.TypeFor[keyPage](),
	}
}
