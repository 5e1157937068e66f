"""``docker`` and ``sampan`` over the same records print the same, field by field; what is meant to differ is listed."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, Result
from tests.support.engine import Engine
from tests.support.images import Image, layer, push, push_index
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar

pytestmark = pytest.mark.skipif(bool(TARGET), reason="sampan speaks to this engine alone")

# Value of a field: what JSON has.
Json = object
Run = Callable[..., Result]

# What the two are meant to show differently, and why: patterns of ``command: path of the field``.
MEANT: Final[Mapping[str, str]] = {
    "df -v: Containers.*.Platform": "as in ps",
    "df -v: BuildCache*Since": "seconds go by between the two commands",
    "df -v: Images*.Digest": "as in images",
    "ps : *Platform": "always null: it is for stores that keep an image's index, which docker asks from API 1.48 on",
    "images : *Digest": "docker's JSON has it with --digests only, sampan's always",
    "system df: Images.Reclaimable": "docker's client takes layers that images share for reclaimable, used or not",
    "system df: Image Content": "what came from registries is a row of its own; Docker's API has no place for it",
    "inspect parity-*: RootPath": "where to look at a container's files from outside; Docker's API has no place for it",
    "inspect parity-*: CgroupPath": "where its limits are; Docker's API has no place for it",
    "version: Client*": "each tells its own program's version",
    **{
        f"version: Server.{program}": "each program that runs containers, by its name; Docker's API has Components"
        for program in ("conmon", "runc", "crun")
    },
    "info: ClientInfo": "the program that asks, which is another",
    "info: NFd": "the descriptors of the process that answers Docker's API",
    "info: NGoroutines": "the tasks of the process that answers Docker's API",
    "info: SystemTime": "the clock, which goes on between the two",
    **{
        f"info: {field}": "a fact about this engine that Docker's API has no place for"
        for field in (
            *("BackingFilesystem", "CgroupLayout", "ConmonVersion", "DataRoot", "DockerSocket", "RunRoot"),
            "RuntimeVersions",
        )
    },
}

# What is said of the time that has passed changes from one run to the next; its words have their own tests.
_PASSED: Final = re.compile(r"Less than a second|About an? (?:minute|hour)|\d+ (?:second|minute|hour)s?")

# How docker begins to say what is wrong with a flag's value.
_FLAG: Final = re.compile(r'^invalid argument ".*" for "--[a-z]+" flag: ')

SLEEP: Final = ("sh", "-c", "trap 'exit 143' TERM; while :; do sleep 3600 & wait $!; done")

COMMANDS: Final = {"exited": ("sh", "-c", "exit 3"), "created": ("sh", "-c", 'echo "é"\n\x1b[m')}


@dataclass(frozen=True, slots=True)
class Records:
    """What there is to show."""

    containers: tuple[str, ...]
    images: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]


@pytest.fixture(scope="module")
def records(engine: Engine, docker: DockerClient, registry: Registry) -> Iterator[Records]:
    """Make containers in every state and of every shape, and images, networks and volumes of every kind."""
    images = _make_images(docker, registry)
    docker("network", "create", "--label", "of=parity", "--subnet", "10.213.7.0/24", "parity-net")
    docker("network", "create", "--internal", "parity-internal")
    docker("volume", "create", "--label", "of=parity", "parity-volume")
    docker("volume", "create", "parity-unused")
    shapes: dict[str, tuple[str, ...]] = {
        "running": ("-p", "127.0.0.1::80", "-p", "127.0.0.1::81/udp", "-l", "a=1", "-l", "b=x,y", "-e", "A=b"),
        "paused": (),
        "exited": ("-p", "127.0.0.1::80"),
        "stopped": ("--network", "parity-net", "--network-alias", "alias", "-p", "127.0.0.1::80"),
        "created": ("-P", "--expose", "90", "--network", "parity-net"),
        "hosted": ("--network", "host"),
        "alone": ("--network", "none", "--hostname", "lonely", "--domainname", "example"),
        "member": ("--network", "parity-net", "--ip", "10.213.7.9", "--label", "of=parity"),
        "joined": ("--network", "container:parity-member"),
        "checked": (
            *("--health-cmd", "true", "--health-interval", "1h", "--health-retries", "2"),
            *("--health-start-period", "1h", "--health-start-interval", "100ms"),
        ),
        "unchecked": ("--no-healthcheck",),
        "linked": ("--link", "parity-running:db"),
        "mounted": (
            *("-v", "parity-volume:/v", "-v", "/data", "-v", "/tmp:/host:ro", "--tmpfs", "/t:size=1m"),
            *("--mount", "type=tmpfs,target=/u", "--mount", "type=volume,source=parity-volume,target=/w,readonly"),
        ),
        "limited": (
            *("--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=64:128", "--read-only"),
            *("--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--security-opt", "no-new-privileges", "--init"),
            *("--restart", "on-failure:2", "--log-opt", "max-size=1m", "--sysctl", "net.ipv4.ip_forward=1"),
            *("--user", "1:1", "--workdir", "/tmp", "--stop-signal", "INT", "--stop-timeout", "1", "--shm-size", "1m"),
            *("--add-host", "a:1.2.3.4", "--dns", "1.1.1.1", "--group-add", "5", "--device", "/dev/null:/dev/n:r"),
        ),
    }
    names = tuple(f"parity-{shape}" for shape in shapes)
    for shape, flags in shapes.items():
        verb = ("create",) if shape == "created" else ("run", "--detach")
        command = COMMANDS.get(shape, SLEEP)
        docker(*verb, "--name", f"parity-{shape}", *flags, images[0], *command)
    docker("commit", "parity-created", "parity/committed:1")
    docker("build", "--tag", "parity/built:1", "-", input=f"FROM {images[0]}\nRUN echo parity > /parity\n")
    docker("pause", "parity-paused")
    docker("stop", "--time", "5", "parity-stopped")
    docker("wait", "parity-exited")
    healthy = "{{.State.Health.Status}}"
    eventually(lambda: docker("inspect", "-f", healthy, "parity-checked").line == "healthy", "it is healthy")
    yield Records(names, images, ("parity-net", "parity-internal", "bridge", "host", "none"), ("parity-volume",))
    docker("rm", "--force", "--volumes", *reversed(names))
    docker("network", "rm", "parity-net", "parity-internal")
    docker("volume", "rm", "parity-volume", "parity-unused")
    docker("rmi", "--force", *docker("images", "--all", "--quiet", "--filter", "label=of=parity").lines)


def _make_images(docker: DockerClient, registry: Registry) -> tuple[str, ...]:
    """One with two tags, one whose tag was taken away, an index's two platforms, one with all that a config can say."""
    config = BUSYBOX_CONFIG | {
        "Labels": {"of": "parity", "a": "b"},
        "ExposedPorts": {"70/tcp": {}},
        "Volumes": {"/image-data": {}},
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**12, "Retries": 3},
        "OnBuild": ["RUN true"],
    }
    plain = Image([layer(busybox_tar())], BUSYBOX_CONFIG | {"Labels": {"of": "parity"}})
    rich = Image([layer(busybox_tar())], config)
    other = Image([layer(busybox_tar())], BUSYBOX_CONFIG | {"Labels": {"of": "parity", "n": "old"}})
    names = tuple(f"{registry.address}/parity-{name}:1" for name in ("plain", "rich", "moved", "index"))
    push(registry, "parity-plain", "1", plain)
    push(registry, "parity-rich", "1", rich)
    push(registry, "parity-moved", "1", other)
    foreign = Image([layer(busybox_tar())], config | {"User": "arm"}, architecture="arm64", variant="v8")
    push_index(registry, "parity-index", "1", [Image([layer(busybox_tar())], config | {"User": "1"}), foreign])
    docker("pull", "--quiet", "--platform", "linux/arm64", names[3])
    for name in names:
        docker("pull", "--quiet", name)
    push(registry, "parity-moved", "1", Image([layer(busybox_tar())], config | {"User": "2"}))
    docker("pull", "--quiet", names[2])
    docker("tag", names[0], "parity/second:tag")
    return names


@pytest.fixture
def both(docker: DockerClient, engine: Engine) -> Callable[..., tuple[str, str]]:
    """Run a command with ``docker`` and with ``sampan``; how much time has passed is TIME in both."""

    def run(*arguments: str) -> tuple[str, str]:
        theirs, ours = docker(*arguments).stdout, engine.sampan(*arguments).stdout
        return _PASSED.sub("TIME", theirs), _PASSED.sub("TIME", ours)

    return run


def _differences(command: str, theirs: Json, ours: Json, path: str = "") -> Iterator[str]:
    """Yield each field whose value is another one, but for what is meant."""
    if any(fnmatchcase(f"{command}: {path}", pattern) for pattern in MEANT):
        return
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            absent = "(absent)"
            yield from _differences(
                command, theirs.get(key, absent), ours.get(key, absent), f"{path}.{key}" if path else key
            )
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(command, one, other, f"{path}[{index}]")
    elif theirs != ours:
        yield f"{command}: {path}: docker {theirs!r}, sampan {ours!r}"


def _none(differences: Iterable[str]) -> None:
    found = list(differences)
    assert not found, "\n".join(found)


def _called(command: tuple[str, ...]) -> str:
    return f"{command[0]} " if command[0] in ("ps", "images") else " ".join(command[:2])


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def _by_type(rows: list[Any]) -> Json:
    """Return the rows of ``system df`` by what they count, those of ``images`` sorted, others as they are."""
    if all(isinstance(row, dict) and "Repository" in row for row in rows):  # docker's order of names is of chance
        return sorted(rows, key=lambda row: (row["ID"], row["Repository"], row["Tag"]))
    named = {row["Type"]: row for row in rows if isinstance(row, dict) and "Type" in row}
    return named if len(named) == len(rows) else rows


DISK_USE: Final = ("system", "df")
LISTS: Final = (
    ("ps", "--all"),
    ("ps",),
    ("ps", "--all", "--no-trunc"),
    ("ps", "--all", "--size"),
    ("ps", "--last", "3"),
    *(("ps", "--all", "--filter", text) for text in (
        "name=^parity-ex", "status=paused", "status=exited", "exited=3", "label=of=parity", "label=a", "health=healthy",
        "network=parity-net", "network=host", "volume=parity-volume", "volume=/v", "ancestor=parity/second:tag",
        "before=parity-exited", "since=parity-exited", "expose=90",
    )),
    ("images",),
    ("images", "--all", "--no-trunc"),
    ("images", "--digests"),
    *(("images", "--filter", text) for text in (
        "dangling=true", "dangling=false", "label=of=parity", "reference=parity/*", "reference=*/parity-*:1",
        "before=parity/committed:1", "since=parity/second:tag",
    )),
    ("network", "ls"),
    ("network", "ls", "--no-trunc"),
    *(("network", "ls", "--filter", text) for text in (
        "name=^parity", "driver=bridge", "type=custom", "type=builtin", "label=of=parity", "dangling=true",
        "scope=local",
    )),
    ("volume", "ls"),
    *(("volume", "ls", "--filter", text) for text in (
        "name=^parity", "dangling=true", "dangling=false", "label=of=parity", "driver=local",
    )),
    DISK_USE,
    ("history", "parity/second:tag"),
    ("history", "--no-trunc", "parity/second:tag"),
    ("history", "--human=false", "parity/second:tag"),
    ("stats", "--no-stream", "parity-paused"),
)  # fmt: skip


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_lists_have_the_same_fields(command: tuple[str, ...], both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = both(*command, "--format", "{{json .}}")
    assert _lines(theirs)
    _none(_differences(_called(command), _by_type(_lines(theirs)), _by_type(_lines(ours))))


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("command", [one for one in LISTS if one != DISK_USE], ids=" ".join)
def test_tables_have_the_same_columns(command: tuple[str, ...], both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = (text.splitlines() for text in both(*command))
    assert ours[0].split() == theirs[0].split()
    if command[0] == "images":  # docker shows the names of one image in an order of chance
        theirs, ours = sorted(theirs), sorted(ours)
    assert [line.split() for line in ours] == [line.split() for line in theirs]


@pytest.mark.usefixtures("records")
def test_the_table_of_disk_use_has_the_same_columns_and_cells(both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = both(*DISK_USE)
    _none(_differences(" ".join(DISK_USE), _by_first_column(theirs), _by_first_column(ours)))


def _by_first_column(table: str) -> dict[str, dict[str, str]]:
    """Return a table's cells by what their row begins with and by their column's title."""
    titles, *rows = (re.split(r" {2,}", line.strip()) for line in table.splitlines())
    return {row[0]: dict(zip(map(str.title, titles), row, strict=True)) for row in rows}


@pytest.mark.usefixtures("records")
def test_the_tables_of_each_object_s_disk_use_are_the_same(both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = (_sections(text) for text in both(*DISK_USE, "--verbose"))
    assert list(ours) == list(theirs)
    for heading, (titles, rows) in theirs.items():
        assert ours[heading] == (titles, rows), heading


def _sections(text: str) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Return titles and sorted rows of each table by what stands above it."""
    found: dict[str, tuple[list[str], list[list[str]]]] = {}
    for heading, table in re.findall(r"^(\S.*usage.*)\n\n((?:.+\n?)*)", text, re.MULTILINE):
        titles, *rows = table.splitlines()
        found[heading] = (titles.split(), sorted(row.split() for row in rows))
    return found


@pytest.mark.parametrize("kind", ["container", "image", "network", "volume"])
def test_inspect_shows_the_same(kind: str, records: Records, both: Callable[..., tuple[str, str]]) -> None:
    names = {
        "container": records.containers,
        "image": (*records.images, "parity/second:tag"),
        "network": records.networks,
        "volume": records.volumes,
    }[kind]
    theirs, ours = both(kind, "inspect", *names)
    found: list[str] = []
    for name, one, other in zip(names, json.loads(theirs), json.loads(ours), strict=True):
        found += _differences(f"inspect {name}", one, other)
    _none(found)


@pytest.mark.parametrize("command", ["info", "version"])
def test_facts_are_the_same(command: str, both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = both(command, "--format", "{{json .}}")
    _none(_differences(command, json.loads(theirs), json.loads(ours)))


def test_sizes_of_each_object_are_the_same(records: Records, both: Callable[..., tuple[str, str]]) -> None:
    theirs, ours = both("system", "df", "--verbose", "--format", "{{json .}}")
    one, other = json.loads(theirs), json.loads(ours)
    for document in (one, other):
        document["Images"] = _by_type(document["Images"])
        for kind, name in (("Containers", "ID"), ("Volumes", "Name")):
            document[kind] = {row[name]: row for row in document[kind]}
    _none(_differences("df -v", one, other))
    assert records.containers[0] in ours


def test_containers_are_found_by_a_published_port(records: Records, both: Callable[..., tuple[str, str]]) -> None:
    published = both("port", "parity-running", "80/tcp")[0].strip().rpartition(":")[2]
    for text, found in ((published, 1), (f"{published}/tcp", 1), (f"{published}/udp", 0), (f"1-{published}", 1)):
        theirs, ours = both("ps", "--all", "--filter", f"publish={text}", "--format", "{{json .}}")
        assert bool(_lines(theirs)) == bool(found), text
        _none(_differences("ps ", _lines(theirs), _lines(ours)))
    assert records.containers[0] == "parity-running"


def _refusals(image: str) -> tuple[tuple[str, ...], ...]:
    return (
        *(("create", "--mount", text, image) for text in (
            'type=bind,src="/a,b",dst=/x', '"type=bind', "type=bind,src", "type=bind,what=1,dst=/b",
            "type=bind,src=/a,dst=/b,readonly=perhaps", "type=volume,dst=/b,bind-recursive=some",
        )),
        *(("create", "--network", text, image) for text in ('name="a,alias=x', '"name=a', "name=a,what=1")),
        ("rmi", image.partition("@")[0]),
        ("rmi", "no/such:1"),
        ("inspect", "nonesuch"),
        ("network", "rm", "bridge"),
        ("volume", "rm", "parity-volume"),
    )  # fmt: skip


@pytest.mark.parametrize("number", range(len(_refusals(""))))
def test_refusals_have_the_same_words(number: int, records: Records, docker: DockerClient, engine: Engine) -> None:
    image = json.loads(docker("image", "inspect", records.images[0]).stdout)[0]["Id"]
    command = _refusals(image)[number]
    theirs, ours = docker.fails(*command), engine.sampan_fails(*command)
    assert _refusal(ours.stderr) == _refusal(theirs.stderr)
    assert theirs.code
    assert ours.code


def _refusal(text: str) -> str:
    """Return what a program has against a command, without who says so and where more is to be read."""
    first = text.strip().splitlines()[0]
    for teller in ("sampan: ", "docker: ", "Error: ", "Error response from daemon: "):
        first = first.removeprefix(teller)
    return _FLAG.sub("", first)  # which of them names, and sampan where the words would not


def test_ports_and_processes_are_the_same(records: Records, both: Callable[..., tuple[str, str]]) -> None:
    for name in records.containers:
        theirs, ours = both("port", name)
        assert sorted(ours.splitlines()) == sorted(theirs.splitlines()), name
    for command in (("top", "parity-running"), ("top", "parity-running", "-o", "pid,args")):
        theirs, ours = both(*command)
        assert [line.split() for line in ours.splitlines()] == [line.split() for line in theirs.splitlines()]
