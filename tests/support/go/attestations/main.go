// Command attestations prints, as JSON, what a builder tells of what is attested of an image: its arguments are the
// builder's address, the image, and types of predicates whose statements are wanted.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
)

func run(ctx context.Context, address, image string, predicates []string) error {
	builder, err := client.New(ctx, address)
	if err != nil {
		return err
	}
	defer builder.Close()
	ask := func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		found, err := c.ResolveSourceMetadata(ctx, &pb.SourceOp{Identifier: "docker-image://" + image}, sourceresolver.Opt{
			ImageOpt: &sourceresolver.ResolveImageOpt{
				NoConfig: true, AttestationChain: true, ResolveAttestations: predicates, ResolveMode: "pull",
			},
		})
		if err != nil {
			return nil, err
		}
		return gateway.NewResult(), json.NewEncoder(os.Stdout).Encode(found.Image)
	}
	_, err = builder.Build(ctx, client.SolveOpt{}, "", ask, nil)
	return err
}

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
