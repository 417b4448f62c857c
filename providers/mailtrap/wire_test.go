package mailtrap

import "reflect"

// Received are the types that Mailtrap's answers are decoded into.
func Received() map[string]reflect.Type {
	return map[string]reflect.Type{
		"list": reflect.TypeFor[[]*record](), "record": reflect.TypeFor[record](), "minted": reflect.TypeFor[minted](),
		"tree": reflect.TypeFor[[]*node](), "accounts": reflect.TypeFor[[]account](), "permission": reflect.TypeFor[permission](),
	}
}

// Likes names what types that decode themselves are decoded from.
func Likes() map[reflect.Type]reflect.Type {
	return map[reflect.Type]reflect.Type{
		reflect.TypeFor[resources](): reflect.TypeFor[[]permission](),
	}
}

// account is what client.accounts decodes.
type account struct {
	ID text `json:"id"`
}
