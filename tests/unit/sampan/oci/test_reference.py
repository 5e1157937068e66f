"""Names, digests and platforms as people, registries and images write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.oci.reference import Reference, in_one_repository, parse_reference, split_term

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("library/debian", "docker.io/library/debian", "debian"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        ("index.docker.io/library/debian", "docker.io/library/debian", "debian"),
        ("docker.io/library/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("user/app/part", "docker.io/user/app/part", "user/app/part"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("reg.example/app", "reg.example/app", "reg.example/app"),
        ("Reg/app", "Reg/app", "Reg/app"),
        ("reg:80/app", "reg:80/app", "reg:80/app"),
        ("reg.example/library/app", "reg.example/library/app", "reg.example/library/app"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
        ("a__b/c-d.e--f:A.b_c-d", "docker.io/a__b/c-d.e--f:A.b_c-d", "a__b/c-d.e--f:A.b_c-d"),
        ("debian:_x", "docker.io/library/debian:_x", "debian:_x"),
        (f"debian:{'x' * 128}", f"docker.io/library/debian:{'x' * 128}", f"debian:{'x' * 128}"),
    ],
)
def test_name_is_understood_and_shown_as_docker_shows_it(text: str, whole: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ":", "@", "/", "a//b", "/a", "a/", "-a", "a-", "a..b", "a___b", ".a", "a:", "a:-x", f"a:{'x' * 129}",
        "a:b:c", "a@", "a@sha256:0", f"a@{DIGEST.upper()}", f"a@{DIGEST}0", f"@{DIGEST}", "a b", "a\n", "a\0b", "ä",
        "a:ä", "reg.example/", "reg.example:x/a", "reg_ex.example/a", "-reg.example/a", "http://reg.example/a", "a/B:1",
        "../etc", "a/../b", "a/.", f"a@sha512:{HEX}{HEX}",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^invalid reference format"):
        parse_reference(text)


def test_upper_case_is_explained() -> None:
    with pytest.raises(InvalidArgumentError, match=r"repository name \(Debian\) must be lowercase"):
        parse_reference("Debian")


def test_long_names_are_refused() -> None:
    parse_reference(f"reg.example/{'a' * 243}")
    with pytest.raises(InvalidArgumentError, match="more than 255 characters"):
        parse_reference(f"reg.example/{'a' * 244}")


def test_default_tag_is_only_for_names_without_any() -> None:
    assert parse_reference("x").with_default_tag().tag == "latest"
    assert parse_reference("x:1").with_default_tag().tag == "1"
    assert parse_reference(f"x@{DIGEST}").with_default_tag().tag is None


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidArgumentError:
        return
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize("text", ["", HEX, DIGEST.upper(), DIGEST[:-1], DIGEST + "0", DIGEST + "\n", "sha256:../../x"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid digest"):
        Digest.parse(text)


def test_digest_has_parts() -> None:
    digest = Digest.parse(DIGEST)
    assert (digest.hex, digest.short) == (HEX, HEX[:12])
    assert Digest.from_hex(HEX) == digest
    assert Digest.of(b"").hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_chain_of_one_is_its_diff_id_and_each_depends_on_those_below() -> None:
    a, b = Digest.of(b"a"), Digest.of(b"b")
    assert chain_ids([]) == ()
    assert chain_ids([a]) == (a,)
    assert chain_ids([a, b]) == (a, Digest.of(f"{a} {b}".encode()))
    assert chain_ids([b, a])[-1] != chain_ids([a, b])[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("LINUX/AMD64", Platform("linux", "amd64")),
        ("arm64", Platform("linux", "arm64", "v8")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("windows/amd64", Platform("windows", "amd64")),
        ("linux/loong64", Platform("linux", "loong64")),
    ],
)
def test_platforms_are_parsed(text: str, expected: Platform) -> None:
    assert parse_platform(text) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "/amd64", "a/b/c/d"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"invalid component of|cannot parse platform specifier"):
        parse_platform(text)


@pytest.mark.parametrize(
    ("wanted", "other", "accepted"),
    [
        (Platform("linux", "amd64"), Platform("linux", "amd64"), True),
        (Platform("linux", "amd64"), Platform("linux", "amd64", "v2"), True),
        (Platform("linux", "amd64"), Platform("linux", "arm64"), False),
        (Platform("linux", "amd64"), Platform("windows", "amd64"), False),
        (Platform("linux", "arm64", "v8"), Platform("linux", "arm64"), True),
        (Platform("linux", "arm64"), Platform("linux", "arm64", "v8"), True),
        (Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6"), False),
        (Platform("linux", "arm"), Platform("linux", "arm", "v6"), True),
    ],
)
def test_platform_accepts_what_can_stand_for_it(wanted: Platform, other: Platform, accepted: bool) -> None:
    assert wanted.accepts(other) is accepted


def test_host_platform_is_linux() -> None:
    assert host_platform().os == "linux"
    assert str(host_platform()).startswith("linux/")


def test_one_repository_is_one_tag_and_its_digests() -> None:
    digest = Digest.of(b"")

    def names(*texts: str) -> list[Reference]:
        return [parse_reference(text) for text in texts]

    assert in_one_repository(names())
    assert in_one_repository(names("a:1", f"a@{digest}"))
    assert not in_one_repository(names("a:1", "a:2"))
    assert not in_one_repository(names("a:1", f"b@{digest}"))


@pytest.mark.parametrize(
    ("wanted", "best_first"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64/v1", "linux/386"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v6", ["linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v5"]),
        ("linux/386", ["linux/386"]),
        ("linux/riscv64", ["linux/riscv64"]),
    ],
)
def test_platform_prefers_what_runs_best_there(wanted: str, best_first: list[str]) -> None:
    every = [
        *("linux/386", "linux/amd64", "linux/amd64/v1", "linux/amd64/v2", "linux/amd64/v3", "windows/amd64"),
        *("linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/arm64/v8", "linux/arm64/v9"),
        *("linux/riscv64", "linux/s390x"),
    ]
    asked = parse_platform(wanted)
    found = {text: asked.preference(parse_platform(text)) for text in every}
    ranks = [found[text] for text in best_first]
    assert None not in ranks
    assert ranks == sorted(ranks)  # type: ignore[type-var]
    machine = {text for text, rank in found.items() if rank is None}
    assert machine.isdisjoint(best_first)
    assert "windows/amd64" in machine


def test_platform_of_arm_without_a_variant_is_v7() -> None:
    plain, seven = Platform("linux", "arm"), Platform("linux", "arm", "v7")
    assert seven.preference(plain) == plain.preference(seven) == 0
    assert Platform("linux", "arm", "v6").preference(plain) is None


def test_config_without_a_variant_can_be_used_for_each() -> None:
    assert Platform("linux", "arm", "v6").runs(Platform("linux", "arm"))
    assert not Platform("linux", "amd64").runs(Platform("linux", "amd64", "v3"))
    assert not Platform("linux", "amd64").runs(Platform("linux", "arm64"))


@pytest.mark.parametrize(
    ("term", "registry", "name"),
    [
        ("debian", "docker.io", "debian"),
        ("library/debian", "docker.io", "debian"),
        ("docker.io/library/debian", "docker.io", "debian"),
        ("index.docker.io/team/app", "docker.io", "team/app"),
        ("Team/App", "docker.io", "Team/App"),
        ("localhost/app", "localhost", "app"),
        ("hub.example:5000/team/app", "hub.example:5000", "team/app"),
        ("hub.example", "docker.io", "hub.example"),
        ("localhost/", "localhost", ""),
    ],
)
def test_a_term_is_asked_of_one_registry(term: str, registry: str, name: str) -> None:
    assert split_term(term) == (registry, name)
