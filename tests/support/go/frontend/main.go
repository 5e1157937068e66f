// Command frontend is a frontend of BuildKit's that is an image, and a client that has containers beside its build.
//
// As a frontend it reads a file of lines, each a word and what follows it: `from IMAGE`, `from input NAME`, `run COMMAND`,
// `file PATH TEXT`, `options PATH`, `container COMMAND`, `attest TYPE JSON`, `dockerfile`, `say WORDS`, `fail WORDS`, `exit CODE`.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"
	"github.com/moby/buildkit/util/appcontext"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	var err error
	if len(os.Args) > 1 {
		err = asClient(appcontext.Context(), os.Args[1], os.Args[2])
	} else {
		err = grpcclient.RunFromEnvironment(appcontext.Context(), build)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func build(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
	options := c.BuildOpts().Opts
	name := options["filename"]
	if name == "" {
		name = "Dockerfile"
	}
	source := llb.Local("dockerfile", llb.FollowPaths([]string{name}), llb.SessionID(c.BuildOpts().SessionID),
		llb.SharedKeyHint("dockerfile"), llb.WithCustomName("[internal] load lines from "+name))
	ref, err := solved(ctx, c, source)
	if err != nil {
		return nil, err
	}
	text, err := ref.ReadFile(ctx, gateway.ReadRequest{Filename: name})
	if err != nil {
		return nil, err
	}
	state, config := llb.Scratch(), ocispecs.Image{}
	config.Architecture, config.OS, config.RootFS.Type = "amd64", "linux", "layers"
	var attestation *result.Attestation[gateway.Reference]
	for _, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "from":
			if input, ok := strings.CutPrefix(rest, "input "); ok {
				inputs, err := c.Inputs(ctx)
				if err != nil {
					return nil, err
				}
				state = inputs[input]
				continue
			}
			_, digest, data, err := c.ResolveImageConfig(ctx, rest, sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{}})
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(data, &config); err != nil || digest == "" {
				return nil, fmt.Errorf("config of %s: %w", rest, err)
			}
			state = llb.Image(rest)
		case "run":
			state = state.Run(llb.Args([]string{"/bin/sh", "-c", rest}), llb.WithCustomName("[line] "+rest)).Root()
		case "file":
			path, content, _ := strings.Cut(rest, " ")
			state = state.File(llb.Mkfile(path, 0o644, []byte(content)))
		case "options":
			var lines []string
			for name, value := range options {
				lines = append(lines, name+"="+value)
			}
			sort.Strings(lines)
			told := fmt.Sprintf("%d workers\n%s\n%s\n", len(c.BuildOpts().Workers), c.BuildOpts().Product, strings.Join(lines, "\n"))
			state = state.File(llb.Mkfile(rest, 0o644, []byte(told)))
		case "container":
			ref, err := solved(ctx, c, state)
			if err != nil {
				return nil, err
			}
			said, err := inContainer(ctx, c, ref, "/bin/sh", "-c", rest)
			if err != nil {
				return nil, err
			}
			state = state.File(llb.Mkfile("/container", 0o644, []byte(said)))
		case "attest":
			kind, predicate, _ := strings.Cut(rest, " ")
			ref, err := solved(ctx, c, llb.Scratch().File(llb.Mkfile("/said.json", 0o644, []byte(predicate))))
			if err != nil {
				return nil, err
			}
			attestation = &result.Attestation[gateway.Reference]{Kind: gwpb.AttestationKind_InToto, Ref: ref, Path: "/said.json",
				InToto: result.InTotoAttestation{PredicateType: kind}}
		case "dockerfile":
			return c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: map[string]string{"filename": rest, "cmdline": ""}})
		case "itself":
			return c.Solve(ctx, gateway.SolveRequest{Frontend: "gateway.v0", FrontendOpt: options})
		case "say":
			fmt.Fprintln(os.Stderr, rest)
		case "wait":
			time.Sleep(time.Hour)
		case "fail":
			return nil, errors.New(rest)
		case "exit":
			code, _ := strconv.Atoi(rest)
			os.Exit(code)
		}
	}
	made, err := solved(ctx, c, state)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	answer := gateway.NewResult()
	answer.SetRef(made)
	answer.AddMeta(exptypes.ExporterImageConfigKey, data)
	if attestation != nil {
		answer.AddAttestation("linux/amd64", *attestation)
	}
	return answer, nil
}

func solved(ctx context.Context, c gateway.Client, state llb.State) (gateway.Reference, error) {
	definition, err := state.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	made, err := c.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB()})
	if err != nil {
		return nil, err
	}
	return made.SingleRef()
}

type closing struct{ io.Writer }

func (closing) Close() error { return nil }

func inContainer(ctx context.Context, c gateway.Client, ref gateway.Reference, args ...string) (string, error) {
	made, err := c.NewContainer(ctx, gateway.NewContainerRequest{Mounts: []gateway.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}}})
	if err != nil {
		return "", err
	}
	defer made.Release(ctx)
	return run(ctx, made, nil, args...)
}

func run(ctx context.Context, container gateway.Container, input io.ReadCloser, args ...string) (string, error) {
	var said bytes.Buffer
	process, err := container.Start(ctx, gateway.StartRequest{Args: args, Cwd: "/", Env: []string{"OWN=yes"}, Stdin: input,
		Stdout: closing{&said}, Stderr: closing{&said}})
	if err != nil {
		return "", err
	}
	err = process.Wait()
	return said.String(), err
}

// asClient drives a build of its own, and prints what came of each process in its container.
func asClient(ctx context.Context, address, image string) error {
	c, err := client.New(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Build(ctx, client.SolveOpt{}, "", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		ref, err := solved(ctx, c, llb.Image(image))
		if err != nil {
			return nil, err
		}
		show := func(what string, said string, err error) {
			var exit *gwpb.ExitError
			if errors.As(err, &exit) {
				fmt.Printf("%s: %q exit %d\n", what, said, exit.ExitCode)
			} else {
				fmt.Printf("%s: %q %v\n", what, said, err)
			}
		}
		container, err := c.NewContainer(ctx, gateway.NewContainerRequest{Hostname: "probe", NetMode: pb.NetMode_NONE, Mounts: []gateway.Mount{
			{Dest: "/", MountType: pb.MountType_BIND, Ref: ref},
			{Dest: "/scratch", MountType: pb.MountType_TMPFS},
		}})
		if err != nil {
			return nil, err
		}
		first, err := container.Start(ctx, gateway.StartRequest{Args: []string{"/bin/sleep", "3600"}, Cwd: "/"})
		if err != nil {
			return nil, err
		}
		sh := func(what, script string) {
			said, err := run(ctx, container, nil, "/bin/sh", "-c", script)
			show(what, said, err)
		}
		sh("shared", "hostname; echo kept > /scratch/file; until grep -q sleep /proc/1/cmdline; do sleep 0.1; done; cat /proc/1/cmdline | tr '\\0' ' '")
		sh("seen", "cat /scratch/file; echo $OWN; exit 7")
		said, err := run(ctx, container, io.NopCloser(strings.NewReader("typed")), "/bin/cat")
		show("stdin", said, err)
		said, err = run(ctx, container, nil, "/no/such/program")
		show("missing", said, err)
		files(ctx, container, show)
		err = first.Signal(ctx, syscall.SIGKILL)
		show("signalled", "", err)
		show("first", "", first.Wait())
		if err := container.Release(ctx); err != nil {
			return nil, err
		}
		_, err = c.NewContainer(ctx, gateway.NewContainerRequest{NetMode: pb.NetMode_HOST, Mounts: []gateway.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}}})
		show("host", "", err)
		return gateway.NewResult(), failed(ctx, c, image, show)
	}, nil)
	return err
}

// files prints what the container's mounts are seen to hold from beside it, while its first process runs.
func files(ctx context.Context, container gateway.Container, show func(string, string, error)) {
	if _, err := run(ctx, container, nil, "/bin/sh", "-c", "mkdir /own && echo written > /own/file && ln -s file /own/link"); err != nil {
		show("written", "", err)
	}
	read := func(mount int, path string) (string, error) {
		data, err := container.ReadFile(ctx, gateway.ReadContainerRequest{ReadRequest: gateway.ReadRequest{Filename: path}, MountIndex: mount})
		return string(data), err
	}
	data, err := read(0, "/own/file")
	show("file", data, err)
	entries, err := container.ReadDir(ctx, gateway.ReadDirContainerRequest{ReadDirRequest: gateway.ReadDirRequest{Path: "/own"}})
	names := []string{}
	for _, each := range entries {
		names = append(names, each.Path)
	}
	show("directory", strings.Join(names, " "), err)
	stat, err := container.StatFile(ctx, gateway.StatContainerRequest{StatRequest: gateway.StatRequest{Path: "/own/file"}})
	show("size", strconv.Itoa(int(stat.GetSize())), err)
	_, err = read(0, "/own/nothing")
	show("no file", "", err)
	_, err = read(1, "/file")
	show("no files", "", err)
	_, err = read(7, "/file")
	show("no mount", "", err)
}

// failed prints what a step that fails has begun with, and what it has left, by the IDs that its error gives.
func failed(ctx context.Context, c gateway.Client, image string, show func(string, string, error)) error {
	state := llb.Image(image).Run(llb.Args([]string{"/bin/sh", "-c", "echo half > /made; echo more > /in/made; exit 7"}),
		llb.AddMount("/in", llb.Scratch().File(llb.Mkfile("/there", 0o644, []byte("first\n")))), llb.IgnoreCache).Root()
	definition, err := state.Marshal(ctx)
	if err != nil {
		return err
	}
	_, err = c.Solve(ctx, gateway.SolveRequest{Evaluate: true, Definition: definition.ToPB()})
	var step *errdefs.SolveError
	if !errors.As(err, &step) {
		return fmt.Errorf("no failed step, but %w", err)
	}
	mounts := step.Op.GetExec().GetMounts()
	for _, each := range []struct {
		what string
		ids  []string
	}{{"before", step.InputIDs}, {"after", step.MountIDs}} {
		made := gateway.NewContainerRequest{}
		for i, mount := range mounts {
			made.Mounts = append(made.Mounts, gateway.Mount{Dest: mount.Dest, MountType: mount.MountType, ResultID: each.ids[i]})
		}
		container, err := c.NewContainer(ctx, made)
		if err != nil {
			return err
		}
		said, err := run(ctx, container, nil, "/bin/sh", "-c", "cat /made /in/* 2>&1")
		show(each.what, said, err)
		if err := container.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}
