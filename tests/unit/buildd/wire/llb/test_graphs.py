from dataclasses import replace

import pytest

from buildd.llb.ops import (
    CacheMount,
    Copy,
    Device,
    DiffOp,
    Edge,
    ExecOp,
    FileAction,
    FileOp,
    HostAddress,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MergeOp,
    Metadata,
    Mount,
    MountType,
    NetMode,
    Node,
    Op,
    Owner,
    Process,
    ProxyEnv,
    Remove,
    SecretEnv,
    SecretMount,
    SecurityMode,
    Sharing,
    SourceOp,
    SshMount,
    Ulimit,
    UserName,
)
from buildd.protocol import SourceFile
from buildd.wire.llb.graphs import MAX_VERTEXES, Graphs
from sampan.api.buildkit.solver.v1 import ops_pb2 as pb
from sampan.build.progress import Position, ProgressGroup
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

IMAGE = Node(SourceOp("docker-image://docker.io/library/busybox:latest", {"b": "2", "a": "1"}))
CONTEXT = Node(SourceOp("local://context"))
ROOT = Mount("/", input=0, output=0)

OPS: dict[str, Op] = {
    "exec": ExecOp(Process(("/bin/sh", "-c", "true")), (ROOT,)),
    "exec with everything": ExecOp(
        Process(
            args=("/bin/true",),
            env=("A=b",),
            cwd="/tmp",
            user="1:2",
            proxy_env=ProxyEnv("h", "s", "f", "n", "a"),
            extra_hosts=(HostAddress("db", "10.0.0.1"),),
            hostname="here",
            ulimits=(Ulimit("nofile", 10, 20),),
            cgroup_parent="/x",
            valid_exit_codes=(0, 3),
        ),
        (
            ROOT,
            Mount("/in", input=1, selector="/a", read_only=True),
            Mount("/out", input=1, output=1),
            Mount("/cache", MountType.CACHE, cache=CacheMount("go", Sharing.LOCKED)),
            Mount("/tmp", MountType.TMPFS, tmpfs_bytes=1 << 20),
            Mount("/run/s", MountType.SECRET, secret=SecretMount("npm", 1, 2, 0o440, optional=True)),
            Mount("/run/a", MountType.SSH, ssh=SshMount("default", 3, 4, 0o600, optional=True)),
        ),
        NetMode.HOST,
        SecurityMode.INSECURE,
        (SecretEnv("token", "TOKEN", optional=True),),
        (Device("vendor.com/class=0", optional=True),),
    ),
    "source": SourceOp("git://example.com/a.git#main", {"git.keepgitdir": "true"}),
    "copy": FileOp(
        (
            FileAction(
                Copy(
                    "/src",
                    "/dest",
                    Owner(UserName("web", 0), UserName(number=0)),
                    0o640,
                    "u=rwX",
                    follow_symlink=True,
                    dir_copy_contents=True,
                    attempt_unpack=True,
                    create_dest_path=True,
                    allow_wildcard=True,
                    allow_empty_wildcard=True,
                    timestamp_ns=5,
                    include_patterns=("*.go",),
                    exclude_patterns=("vendor",),
                    always_replace=True,
                    required_paths=("/src/go.mod",),
                ),
                input=0,
                secondary_input=1,
            ),
            FileAction(MakeFile("/f", 0o600, b"\0data", Owner(UserName(number=7))), input=2),
            FileAction(MakeDirectory("/d", 0o755, make_parents=True, timestamp_ns=0), input=3),
            FileAction(MakeSymlink("d", "/l", Owner(None, UserName(number=1)), 9), input=4),
            FileAction(Remove("/x*", allow_not_found=True, allow_wildcard=True), input=5, output=0),
        )
    ),
    "merge": MergeOp((0, 1)),
    "diff": DiffOp(0, 1),
    "diff with nothing": DiffOp(upper=0),
}


def graphs() -> Graphs:
    return Graphs(frozenset(("exec.meta.base",)))


def inputs_of(name: str) -> tuple[Edge, ...]:
    """Return as many as the operation has to have."""
    return (IMAGE.output(), CONTEXT.output())[: {"source": 0, "diff with nothing": 1}.get(name, 2)]


def dumped(edge: Edge) -> bytes:
    return graphs().dump(edge)


@pytest.mark.parametrize("name", OPS)
def test_every_operation_comes_back_as_it_was(name: str) -> None:
    group = ProgressGroup("g", "group", weak=True)
    metadata = Metadata("a name", ignore_cache=True, progress_group=group, description={"com.example": "x"})
    node = Node(OPS[name], inputs_of(name), Platform("linux", "arm", "v7"), metadata)
    loaded = graphs().load(dumped(node.output()))
    assert loaded is not None
    assert (loaded.node.op, loaded.node.platform, loaded.node.metadata) == (node.op, node.platform, node.metadata)
    assert [each.node.op for each in loaded.node.inputs] == [each.node.op for each in node.inputs]


def test_the_digest_of_a_vertex_is_that_of_the_operation_s_bytes() -> None:
    node = Node(OPS["exec"], (IMAGE.output(),))
    message = pb.Definition.FromString(dumped(node.output()))
    encoded = getattr(message, "def")
    assert [Digest.of(each) for each in encoded[:2]] == [graphs().digest_of(IMAGE), graphs().digest_of(node)]
    assert pb.Op.FromString(encoded[2]).inputs[0].digest == graphs().digest_of(node)


def test_a_client_s_own_bytes_are_what_its_vertexes_are_called_by() -> None:
    platform = pb.Platform(OS="linux", Architecture="amd64", OSVersion="unknown here")
    source = pb.Op(source=pb.SourceOp(identifier="local://x"), platform=platform)
    data = source.SerializeToString()
    read = graphs()
    edge = read.load(definition(data))
    assert edge is not None
    assert read.digest_of(edge.node) == Digest.of(data)
    assert getattr(pb.Definition.FromString(read.dump(edge)), "def")[0] == data


def test_equal_nodes_are_one_vertex() -> None:
    one, two = Node(OPS["exec"], (IMAGE.output(),)), Node(OPS["exec"], (IMAGE.output(),))
    merged = Node(MergeOp((0, 1)), (one.output(), two.output()))
    assert len(getattr(pb.Definition.FromString(dumped(merged.output())), "def")) == 4  # and what names the result


def test_what_a_source_is_replaced_by_makes_other_vertexes_of_all_that_needs_it() -> None:
    file = SourceFile("Dockerfile", b"FROM a\nRUN b\n")
    node = Node(OPS["exec"], (IMAGE.output(), CONTEXT.output()), metadata=Metadata(positions=(Position(2, 2),)))
    read, data = graphs(), graphs().dump(node.output(), file)
    asked = read.load(data)
    other = SourceOp("docker-image://docker.io/library/other:latest")
    taken = read.load(data, lambda op: other if op == IMAGE.op else op)
    assert asked is not None
    assert taken is not None
    assert [each.node.op for each in taken.node.inputs] == [other, CONTEXT.op]
    vertexes = [(edge.node, *(each.node for each in edge.node.inputs)) for edge in (asked, taken)]
    digests = [list(map(read.digest_of, some)) for some in vertexes]
    assert [one == two for one, two in zip(*digests, strict=True)] == [False, False, True]
    assert read.source_of(digests[1][0]) == file


def test_lines_travel_with_the_file_that_they_are_in() -> None:
    file = SourceFile("Dockerfile", b"FROM a\nRUN b\n")
    image = replace(IMAGE, metadata=Metadata(positions=(Position(1, 1),)))
    node = Node(OPS["exec"], (image.output(),), metadata=Metadata(positions=(Position(2, 2),)))
    read = graphs()
    edge = read.load(graphs().dump(node.output(), file))
    assert edge is not None
    assert edge.node.metadata.positions == (Position(2, 2),)
    assert read.source_of(read.digest_of(edge.node)) == file
    assert read.source_of(read.digest_of(edge.node.inputs[0].node)) == file


def test_steps_without_a_name_are_called_by_what_they_do() -> None:
    names = []
    for name in ("exec", "source", "copy", "merge", "diff"):
        edge = graphs().load(dumped(Node(OPS[name], inputs_of(name)).output()))
        assert edge is not None
        names.append(edge.node.metadata.name)
        assert not pb.Definition.FromString(dumped(edge)).metadata, "nobody has said it"
    assert names == [
        "/bin/sh -c true",
        "git://example.com/a.git#main",
        "copy /src /dest, mkfile /f, mkdir /d, symlink d /l, rm /x*",
        "merge",
        "diff",
    ]


def test_an_empty_definition_is_the_empty_tree() -> None:
    assert graphs().load(b"") is None
    assert graphs().dump(None) == b""


def test_a_deep_graph_is_read_and_written() -> None:
    node = IMAGE
    for number in range(5000):
        node = Node(FileOp((FileAction(MakeDirectory(f"/{number}", 0o755), input=0, output=0),)), (node.output(),))
    read = graphs()
    edge = read.load(dumped(node.output()))
    assert edge is not None
    assert read.digest_of(edge.node) == graphs().digest_of(node)


def definition(*ops: bytes, target: str = "", index: int = 0, more: bytes = b"") -> bytes:
    message = pb.Definition()
    last = pb.Op(inputs=[pb.Input(digest=target or Digest.of(ops[-1]), index=index)]).SerializeToString()
    getattr(message, "def").extend((*((more,) if more else ()), *ops, last))
    return message.SerializeToString()


def op(*inputs: str, **kind: object) -> bytes:
    message = pb.Op(inputs=[pb.Input(digest=each) for each in inputs], **kind)  # type: ignore[arg-type]
    return message.SerializeToString()


SOURCE = op(source=pb.SourceOp(identifier="local://x"))
MISSING = f"sha256:{'0' * 64}"
META = pb.Meta(args=["true"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xff", "invalid definition"),
        (definition(b"\xff\xff"), "failed to parse llb proto op: "),
        (definition(SOURCE, target=MISSING), f"invalid missing input digest {MISSING}"),
        (definition(op(MISSING, merge=pb.MergeOp())), f"invalid missing input digest {MISSING}"),
        (definition(SOURCE, index=1), "takes output 1 of"),
        (definition(SOURCE, index=-1), "invalid input 0 output index -1"),
        (definition(op()), "it says nothing"),
        (definition(op(source=pb.SourceOp())), "without an identifier"),
        (
            definition(op(Digest.of(SOURCE), source=pb.SourceOp(identifier="local://x")), more=SOURCE),
            "source op with 1 in",
        ),
        (definition(op(exec=pb.ExecOp())), "invalid exec op with no meta"),
        (definition(op(exec=pb.ExecOp(meta=pb.Meta(cwd="/")))), "invalid exec op with no args"),
        (definition(op(exec=pb.ExecOp(meta=META))), "invalid exec op with no mounts"),
        (definition(op(exec=pb.ExecOp(meta=META, mounts=[pb.Mount(dest="/x", input=-1)]))), "with no rootfs"),
        (
            definition(op(exec=pb.ExecOp(meta=META, mounts=[pb.Mount(dest="/", input=-1)] * 2))),
            "exactly one mount is its root",
        ),
        (definition(op(exec=pb.ExecOp(meta=META, mounts=[pb.Mount(dest="/")]))), "names input 0 and has 0"),
        (definition(op(exec=pb.ExecOp(meta=META, mounts=[pb.Mount(dest="/", input=-1, output=3)]))), "count from 0"),
        (
            definition(
                op(exec=pb.ExecOp(meta=META, network=pb.NetMode.ValueType(9), mounts=[pb.Mount(dest="/", input=-1)]))
            ),
            "invalid network mode 9",
        ),
        (definition(op(file=pb.FileOp())), "invalid file op with no actions"),
        (definition(op(file=pb.FileOp(actions=[pb.FileAction(input=-1, secondaryInput=-1)]))), "says nothing"),
        (
            definition(op(file=pb.FileOp(actions=[pb.FileAction(input=0, rm=pb.FileActionRm(path="/x"))]))),
            "names input 0 and has 0",
        ),
        (
            definition(op(merge=pb.MergeOp(inputs=[pb.MergeInput(input=1)]))),
            "invalid merge op with 1 inner inputs and 0 outer inputs",
        ),
        (definition(op(diff=pb.DiffOp())), "invalid diff op with nil lower or upper input"),
        (
            definition(op(diff=pb.DiffOp(lower=pb.LowerDiffInput(input=-1), upper=pb.UpperDiffInput(input=0)))),
            "invalid diff op with 1 inner inputs and 0 outer inputs",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        graphs().load(data)
    assert said in str(raised.value)
    assert str(raised.value).startswith("failed to load LLB: ")


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ((SOURCE,), "invalid LLB with 1 vertexes"),
        ((SOURCE, SOURCE), "invalid LLB with 1 vertexes"),
        ((SOURCE, op()), "invalid LLB with no inputs on last vertex"),
        ((SOURCE, op(Digest.of(SOURCE), file=pb.FileOp())), "its last vertex names the one result"),
        ((SOURCE, op(Digest.of(SOURCE), Digest.of(SOURCE))), "its last vertex names the one result"),
    ],
)
def test_a_definition_that_ends_with_something_to_do_is_refused(ops: tuple[bytes, ...], said: str) -> None:
    message = pb.Definition()
    getattr(message, "def").extend(ops)
    with pytest.raises(InvalidArgumentError, match=said):
        graphs().load(message.SerializeToString())


def test_lines_of_a_file_that_is_not_there_are_refused() -> None:
    message = pb.Definition.FromString(definition(SOURCE))
    message.Source.locations[Digest.of(SOURCE)].locations.append(pb.Location(sourceIndex=9))
    with pytest.raises(InvalidArgumentError, match=f"invalid source index 9 for vertex {Digest.of(SOURCE)}"):
        graphs().load(message.SerializeToString())


def test_too_many_vertexes_are_refused() -> None:
    message = pb.Definition()
    getattr(message, "def").extend([b""] * (MAX_VERTEXES + 1))
    with pytest.raises(InvalidArgumentError, match="the most is 100000"):
        graphs().load(message.SerializeToString())


@pytest.mark.parametrize(
    ("kind", "name"), [(pb.Op(build=pb.BuildOp()), "build"), (pb.Op(passthrough=pb.PassthroughOp()), "passthrough")]
)
def test_operations_that_are_not_carried_out_are_refused_by_name(kind: pb.Op, name: str) -> None:
    with pytest.raises(UnimplementedError, match=f"LLB operation {name} is not supported"):
        graphs().load(definition(kind.SerializeToString()))


def test_a_capability_that_the_builder_has_not_is_refused_by_name() -> None:
    message = pb.Definition.FromString(definition(SOURCE))
    said = message.metadata[Digest.of(SOURCE)]
    said.caps["exec.meta.base"] = True
    assert graphs().load(message.SerializeToString()) is not None
    said.caps["exec.meta.levitation"] = True
    with pytest.raises(UnimplementedError, match=r"needs the capability exec\.meta\.levitation"):
        graphs().load(message.SerializeToString())
