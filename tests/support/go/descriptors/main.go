// Command descriptors prints the interfaces of BuildKit as its Go module has them: a FileDescriptorSet.
package main

import (
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/moby/buildkit/api/services/control"
	_ "github.com/moby/buildkit/api/types"
	_ "github.com/moby/buildkit/frontend/gateway/pb"
	_ "github.com/moby/buildkit/session/auth"
	_ "github.com/moby/buildkit/session/exporter"
	_ "github.com/moby/buildkit/session/filesync"
	_ "github.com/moby/buildkit/session/secrets"
	_ "github.com/moby/buildkit/session/sshforward"
	_ "github.com/moby/buildkit/session/upload"
	_ "github.com/moby/buildkit/solver/errdefs"
	_ "github.com/moby/buildkit/solver/pb"
	_ "github.com/moby/buildkit/sourcepolicy/pb"
	_ "github.com/moby/buildkit/sourcepolicy/policysession"
	_ "github.com/moby/buildkit/util/apicaps/pb"
	_ "github.com/moby/buildkit/util/stack"
	_ "github.com/tonistiigi/fsutil/types"
)

func main() {
	set := &descriptorpb.FileDescriptorSet{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
		return true
	})
	data, err := proto.Marshal(set)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(data)
}
