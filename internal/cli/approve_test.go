package cli

import (
	"os/user"
	"testing"
)

// Who decides is on record also where no one knows the user's name, as in an image without a passwd file.
func TestLocalName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		user *user.User
		err  error
		uid  int
		want string
	}{
		{&user.User{Username: "ada"}, nil, 1000, "local:ada"},
		{nil, user.UnknownUserIdError(65532), 65532, "local:uid-65532"},
		{&user.User{}, nil, 1000, "local:uid-1000"},
		{nil, user.UnknownUserIdError(0), -1, "local:unknown"}, // no Unix
	} {
		if got := localName(test.user, test.err, test.uid); got != test.want {
			t.Errorf("%+v: %s, want %s", test, got, test.want)
		}
	}
}
