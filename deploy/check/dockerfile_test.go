package check

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/opencontainers/go-digest"
)

// dockerfile judges a file as docker build --check does, where a warning counts as well, and wants
// an image from nothing, under a numeric user who is not root.
func dockerfile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, file, "Dockerfile", data)
	source.Definition = &llb.Definition{} // what a client would have sent it in
	results, err := dockerfile2llb.DockerfileLint(context.Background(), data, dockerfile2llb.ConvertOpt{SourceMap: source, MetaResolver: anyImage{}})
	if err != nil {
		return err
	}
	var problems []error
	if results.Error != nil {
		problems = append(problems, errors.New(results.Error.Message))
	}
	for _, warning := range results.Warnings {
		problems = append(problems, fmt.Errorf("%s: %s", warning.RuleName, warning.Detail))
	}
	stages, err := readStages(data)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	return errors.Join(append(problems, checkStages(stages)...)...)
}

// anyImage stands for the registry: every base image exists, and sets nothing.
type anyImage struct{}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (anyImage) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte(`{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers"}}`), nil
}

func readStages(data []byte) ([]instructions.Stage, error) {
	parsed, err := parser.Parse(strings.NewReader(string(data)))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	return stages, err
}

func checkStages(stages []instructions.Stage) []error {
	var problems []error
	for _, stage := range stages[:len(stages)-1] {
		if err := checkImage(stage.BaseName); err != nil {
			problems = append(problems, err)
		}
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		problems = append(problems, fmt.Errorf("the image holds all of %s", last.BaseName))
	}
	user, entry := "", false
	for _, command := range last.Commands {
		switch c := command.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = !c.PrependShell
		case *instructions.EnvCommand:
			for _, variable := range c.Env {
				if isSecretName(variable.Key) {
					problems = append(problems, fmt.Errorf("the variable %s holds a secret", variable.Key))
				}
			}
		}
	}
	if !regexp.MustCompile(`^[1-9][0-9]*:[1-9][0-9]*$`).MatchString(user) {
		problems = append(problems, fmt.Errorf("the user is %q; valid: the numbers of a user and a group that are not root's", user))
	}
	if !entry {
		problems = append(problems, errors.New("there is no ENTRYPOINT that runs without a shell"))
	}
	return problems
}
