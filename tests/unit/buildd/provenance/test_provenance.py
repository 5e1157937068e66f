"""What a client may have attested, and what is told of a build then."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from buildd.llb.ops import ExecOp, Metadata, Mount, MountType, NetMode, Node, Process, SecretEnv, SecretMount, SourceOp
from buildd.protocol import ImageQuery, Pinned, ResolvedImage, Result, Tree
from buildd.provenance.attesting import Asked, IncompleteMaterialsError, Provenance, capture
from buildd.provenance.materials import package_url, redacted
from buildd.provenance.options import ProvenanceOptions, SbomOptions, parse_attestations, parse_sbom
from buildd.provenance.predicate import BuildConfig
from buildd.solver.build import Evaluated
from buildd.wire.llb.graphs import Graphs
from buildd.wire.llb.steps import build_config
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

AMD = Platform("linux", "amd64")
PIN = Digest.of(b"image")
KEY = Digest.of(b"key")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ProvenanceOptions()),
        ("mode=min,inline-only=true", ProvenanceOptions(everything=False, inline_only=True)),
        ("mode=full,version=v0.2", ProvenanceOptions(version="v0.2")),
        ('"builder-id=https://a,b",reproducible=true', ProvenanceOptions(builder_id="https://a,b", reproducible=True)),
        ("disabled=true", None),
    ],
)
def test_provenance_is_asked_for(text: str, expected: ProvenanceOptions | None) -> None:
    assert parse_attestations({"attest:provenance": text, "target": "app"}) == expected
    assert parse_attestations({"build-arg:BUILDKIT_ATTEST_PROVENANCE": text}) == expected


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"attest:provenance": "mode=most"}, 'invalid mode "most"'),
        ({"attest:provenance": "version=v2"}, "invalid provenance SLSA version: v2"),
        ({"attest:provenance": "colour=red"}, "unknown attribute 'colour'"),
        ({"attest:provenance": "filename=../x"}, "invalid filename '../x'"),
        (
            {"attest:provenance": "reproducible=perhaps"},
            'failed to parse reproducible flag "perhaps": strconv.ParseBool',
        ),
        ({"attest:vex": ""}, 'unknown attestation type "vex"'),
    ],
)
def test_what_cannot_be_attested_is_named(attributes: Mapping[str, str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_attestations(attributes)


def test_a_bill_of_materials_is_asked_for() -> None:
    assert parse_sbom({"attest:sbom": ""}) == SbomOptions("docker/buildkit-syft-scanner:stable-1")
    asked = {"attest:sbom": "generator=a/b,EXTRA_SCANNERS=base", "no-cache": ""}
    assert parse_sbom(asked) == SbomOptions("a/b", {"EXTRA_SCANNERS": "base"}, ignore_cache=True)
    assert parse_sbom({"build-arg:BUILDKIT_ATTEST_SBOM": "disabled=true"}) is None
    assert parse_sbom({"attest:provenance": ""}) is None
    for text, words in (
        ("generator=", "sbom scanner cannot be empty"),
        ("generator=A//b", "failed to parse sbom scanner A//b"),
        ("a-b=c", "invalid attribute 'a-b' of attestation sbom"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            parse_sbom({"attest:sbom": text})


@pytest.mark.parametrize(
    ("reference", "platform", "url"),
    [
        ("alpine", AMD, "pkg:docker/alpine@latest?platform=linux%2Famd64"),
        ("docker.io/library/alpine:3", None, "pkg:docker/alpine@3"),
        ("localhost:5000/a/b:1", AMD, "pkg:docker/localhost:5000/a/b@1?platform=linux%2Famd64"),
        (f"a:1@{PIN}", AMD, f"pkg:docker/a@1?digest={PIN}&platform=linux%2Famd64"),
        (f"a@{PIN}", None, f"pkg:docker/a?digest={PIN}"),
    ],
)
def test_images_have_package_urls(reference: str, platform: Platform | None, url: str) -> None:
    assert package_url(reference, platform) == url


def test_credentials_are_left_out() -> None:
    assert redacted("https://me:secret@host/a.git#main") == "https://xxxxx:xxxxx@host/a.git#main"
    assert redacted("https://token@host/a") == "https://xxxxx@host/a"
    assert redacted("https://host/a@b") == "https://host/a@b"


def graph(network: NetMode = NetMode.SANDBOX, *, local: bool = True) -> tuple[Node, list[Evaluated], Graphs]:
    """Return a step with a base, a client's directory, a secret, and what they came to."""
    graphs = Graphs(frozenset())
    base = Node(SourceOp(f"docker-image://docker.io/library/base:1@{PIN}"), (), AMD)
    other = Node(SourceOp("local://context", {"local.sessionid": "s"})) if local else base
    mounts = (
        Mount("/", input=0, output=0),
        Mount("/src", input=1, read_only=True),
        Mount("/run/secrets/a", MountType.SECRET, secret=SecretMount("a", optional=True)),
    )
    op = ExecOp(Process(("make",)), mounts, network, secret_env=(SecretEnv("a", "A"),))
    step = Node(op, (base.output(), other.output()), AMD, Metadata("RUN make"))
    outcomes = [
        Evaluated(base, graphs.digest_of(base), KEY, (Tree(),), pinned=Pinned("k", PIN)),
        Evaluated(step, graphs.digest_of(step), KEY, (Tree(),)),
    ]
    if local:
        outcomes.insert(1, Evaluated(other, graphs.digest_of(other), KEY, (Tree(),), pinned=Pinned("")))
    return step, outcomes, graphs


def captured(
    attributes: Mapping[str, str] | None = None, network: NetMode = NetMode.SANDBOX, *, local: bool = True
) -> Provenance:
    step, outcomes, graphs = graph(network, local=local)
    result = Result({"": step.output()}, frontend="dockerfile.v0", attributes=attributes or {})
    query = ImageQuery("docker.io/library/base:1", AMD)
    images = {query: ResolvedImage(query.reference, PIN, b"{}")}
    return capture(Asked(result, [("", AMD)], outcomes, images, 10**18), graphs.digest_of, graphs.dump)


async def told(provenance: Provenance, **options: Any) -> Any:
    said = await provenance.attest(ProvenanceOptions(**options), build_config, 10**18 + 5)
    ((each,),) = said.values()
    return json.loads(each.predicate)


async def test_a_predicate_says_what_was_asked_for_and_what_came_together() -> None:
    provenance = captured({"build-arg:A": "1", "filename": "Dockerfile", "vcs:source": "https://u:p@host/r"})
    predicate = await told(provenance, builder_id="https://ci")
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    assert definition["externalParameters"] == {
        "configSource": {"path": "Dockerfile"},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {"build-arg:A": "1"},
            "secrets": [{"id": "a"}],  # one of those that want it cannot be without
            "locals": [{"name": "context"}],
        },
    }
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:docker/base@1?platform=linux%2Famd64", "digest": {"sha256": PIN.partition(":")[2]}}
    ]
    assert run["builder"] == {"id": "https://ci"}
    assert run["metadata"]["startedOn"] == "2001-09-09T01:46:40.000000000Z"
    assert run["metadata"]["buildkit_completeness"] == {"request": True, "resolvedDependencies": False}
    assert run["metadata"]["buildkit_metadata"] == {"vcs": {"source": "https://xxxxx:xxxxx@host/r"}}
    steps = definition["internalParameters"]["buildConfig"]["llbDefinition"]
    assert [each["id"] for each in steps] == ["step0", "step1", "step2", "step3"]
    assert steps[2]["inputs"] == ["step0:0", "step1:0"]
    assert steps[2]["op"]["Op"]["exec"]["meta"]["args"] == ["make"]
    assert "attrs" not in steps[1]["op"]["Op"]["source"]  # a session is of one build


async def test_the_shorter_form_has_no_arguments_secrets_or_steps() -> None:
    predicate = await told(captured({"build-arg:A": "1", "target": "app"}), everything=False)
    definition = predicate["buildDefinition"]
    assert definition["externalParameters"]["request"] == {
        "frontend": "dockerfile.v0", "args": {"target": "app"}, "locals": [{"name": "context"}]
    }  # fmt: skip
    assert "buildConfig" not in definition["internalParameters"]
    assert predicate["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False


async def test_a_build_without_network_and_directories_is_hermetic() -> None:
    metadata = (await told(captured(network=NetMode.NONE, local=False)))["runDetails"]["metadata"]
    assert metadata["buildkit_hermetic"] is True
    metadata = (await told(captured(local=False)))["runDetails"]["metadata"]
    assert "buildkit_hermetic" not in metadata


async def test_the_older_form_says_the_same() -> None:
    predicate = await told(captured(local=False), version="v0.2", reproducible=True)
    assert predicate["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert [each["uri"] for each in predicate["materials"]] == ["pkg:docker/base@1?platform=linux%2Famd64"]
    assert predicate["invocation"]["parameters"]["frontend"] == "dockerfile.v0"
    assert predicate["metadata"]["reproducible"] is True
    assert predicate["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": True}


async def test_a_client_that_wants_all_materials_gets_no_less() -> None:
    with pytest.raises(IncompleteMaterialsError, match="local_source"):
        await told(captured(), complete=True)
    assert await told(captured(local=False), complete=True)


def test_an_empty_definition_has_no_steps() -> None:
    assert build_config(b"") == BuildConfig([], {})
