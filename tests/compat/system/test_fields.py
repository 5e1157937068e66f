"""Every field that the API answers with, against those of dockerd 20.10, name by name and kind by kind.

``dockerd_fields.json`` is what dockerd said to the same questions, at API 1.41; run against dockerd
(``tools.against_dockerd``), this test looks whether it still says so. MEANT lists where the engine answers otherwise,
each with its reason: one that is not so any more fails, too.
"""

import json
import os
import re
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.tools import eventually

Shape: TypeAlias = dict[str, str]  # a path such as ".HostConfig.Binds[]": the kinds of value there, sorted

RECORDED: Final = Path(__file__).with_name("dockerd_fields.json")
RECORD: Final = bool(os.environ.get("SAMPAN_TEST_RECORD"))  # write the file instead, with dockerd as the target

# Objects whose keys are data.
MAPS: Final = re.compile(
    r"(Labels|Networks|Ports|Volumes|ExposedPorts|Options|Sysctls|Runtimes|DriverOpts|[aA]ttributes|networks"
    r"|IndexConfigs|Tmpfs|\.Containers|\.Config\.Config|Storage|Annotations)$"
)
KINDS: Final = {str: "text", int: "number", float: "number", bool: "flag", type(None): "null", dict: "{}", list: "[]"}


@dataclass(frozen=True, slots=True)
class Meant:
    """Paths, of which answers, where the engine says something else, and why."""

    answers: str  # a regular expression, as the next
    paths: str
    why: str


MEANT: Final[tuple[Meant, ...]] = (
    Meant("container.*", r".*\.Networks\.\*\.DNSNames(\[\])?", "dockerd has it from 1.44 on, at every version"),
    Meant(
        "image", r"\.ContainerConfig\..*", "kept empty, for clients that fail without it; nobody records it any more"
    ),
    Meant("image", r"\.GraphDriver\.Data(\..*)?", "there is no directory per image that a client could look into"),
    Meant("info", r"\.CDISpecDirs(\[\])?", "dockerd has it from 1.46 on, at every version"),
    Meant("info", r"\.Warnings(\[\])?", "vulnerabilities of the OCI runtime are told there"),
    Meant(
        "network.*", r".*\.(EnableIPv4|IPAM\.Config\[\]\.Gateway)", "dockerd has them from 1.48 on, at every version"
    ),
    Meant("stats", r"\.memory_stats\.stats\.\w+", "all that the kernel counts, also what is younger than dockerd"),
    Meant("version", r"\.Components\[\]\.Details\.PythonVersion", "no Go program, whose version would be there"),
    Meant("wait", r"\.Error", "dockerd leaves it out from 1.43 on, at every version"),
)


def shape(value: object) -> Shape:
    """Return the paths in a JSON value, with the kinds of what is there."""
    found: dict[str, set[str]] = {}

    def walk(value: object, path: str) -> None:
        found.setdefault(path, set()).add(KINDS[type(value)])
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{path}.*" if MAPS.search(path) else f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, f"{path}[]")

    walk(value, "")
    return {path: " ".join(sorted(kinds)) for path, kinds in found.items()}


class Api:
    """Questions at version 1.41."""

    def __init__(self, docker: DockerClient) -> None:
        self._path = docker.host.removeprefix("unix://")

    def __call__(self, path: str, body: object = None, method: str = "") -> Any:
        """Return what the answer says; lines become a list."""
        with closing(UnixConnection(self._path)) as connection:
            sent = None if body is None else json.dumps(body)
            verb = method or ("GET" if body is None else "POST")
            connection.request(verb, f"/v1.41{path}", sent, {"Content-Type": "application/json"})
            text = connection.getresponse().read().decode()
        try:
            return json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines()]


def named(items: list[dict[str, Any]], *wanted: str) -> list[dict[str, Any]]:
    """Return those of a list that one of ``wanted`` names, by its ID or name."""
    return [item for item in items if {str(item.get("Id")), str(item.get("Name"))} & set(wanted)]


def filters(**values: str) -> str:
    """Return the query of a filter."""
    return "filters=" + quote(json.dumps({key: [value] for key, value in values.items()}))


@pytest.fixture(scope="module")
def answers(docker: DockerClient, image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shape]:
    """What each question is answered with, after a container of each state, a network and a volume were made."""
    ask, host = Api(docker), tmp_path_factory.mktemp("bind")
    base, committed = "fields-base:1", "fields-commit:1"
    changes = (
        *('CMD ["sh"]', "ENV A=b", "LABEL l=m", "EXPOSE 80", "HEALTHCHECK --interval=1s CMD true"),
        *("VOLUME /v", "WORKDIR /w", "USER 0"),
    )
    docker("create", "--name", "fields-root", image, "true")
    docker("commit", *(word for change in changes for word in ("--change", change)), "fields-root", base)
    docker("network", "create", "--subnet", "10.77.33.0/24", "--label", "a=b", "fields-net")
    docker("volume", "create", "--label", "a=b", "fields-volume")
    docker("create", "--name", "fields-made", base, "true")
    docker(
        *(
            "run",
            "-d",
            "--name",
            "fields-up",
            "--net",
            "fields-net",
            "-p",
            "127.0.0.1::80",
            "-v",
            "fields-volume:/data",
        ),
        *("-v", f"{host}:/h:ro", "--tmpfs", "/t", "-m", "64m", "--cpus", "0.5", "--cap-add", "NET_ADMIN"),
        *("--device", "/dev/null", "--ulimit", "nofile=100:200", "--log-opt", "max-size=10m", "-e", "X=y"),
        *("--restart", "on-failure:3", "--label", "q=r", "--dns", "1.1.1.1", "--add-host", "a:1.2.3.4"),
        *("--sysctl", "net.ipv4.ip_forward=1", base, "sleep", "1000"),
    )
    docker.fails("run", "--name", "fields-done", base, "sh", "-c", "echo hi; exit 3")
    docker("commit", "fields-done", committed)
    eventually(lambda: ask("/containers/fields-up/json")["State"]["Health"]["Log"], "a look at the health")
    up, made, done = (ask(f"/containers/fields-{name}/json")["Id"] for name in ("up", "made", "done"))
    execution = ask("/containers/fields-up/exec", {"AttachStdout": True, "Cmd": ["true"], "Env": ["a=b"]})
    exec_path = f"/exec/{execution['Id']}/json"
    images = {ask(f"/images/{name}/json")["Id"] for name in (base, committed)}
    answers = {
        "info": ask("/info"),
        "version": ask("/version"),
        **{f"container {name}": ask(f"/containers/fields-{name}/json?size=1") for name in ("up", "made", "done")},
        "containers": named(ask("/containers/json?all=1&size=1"), up, made, done),
        "images": named(ask("/images/json"), *images),
        "image": ask(f"/images/{base}/json"),
        "history": ask(f"/images/{base}/history"),
        "networks": named(ask("/networks"), "bridge", "fields-net"),
        "network": ask("/networks/fields-net"),
        "volumes": ask(f"/volumes?{filters(name='fields-volume')}"),
        "volume": ask("/volumes/fields-volume"),
        "stats": ask("/containers/fields-up/stats?stream=false"),
        "top": ask("/containers/fields-up/top"),
        "changes": ask("/containers/fields-done/changes"),
        "exec create": execution,
        "exec": ask(exec_path),
        "update": ask("/containers/fields-up/update", {"Memory": 64 << 20}),
        "wait": ask("/containers/fields-done/wait", method="POST"),
        "create": ask("/containers/create?name=fields-new", {"Image": base}),
        "no container": ask("/containers/nosuch/json"),
    }
    names = [f"fields-{name}" for name in ("root", "made", "up", "done", "new")]
    docker("rm", "--force", "--volumes", *names)
    answers["events"] = ask(f"/events?since=1&until={time.time():.6f}&{filters(container=up)}")
    answers["removed image"] = [ask(f"/images/{committed}", method="DELETE"), ask(f"/images/{base}", method="DELETE")]
    docker("network", "rm", "fields-net")
    docker("volume", "rm", "fields-volume")
    answers["prune"] = ask(f"/volumes/prune?{filters(label='fields=nosuch')}", method="POST")
    return {name: shape(answer) for name, answer in answers.items()}


@pytest.fixture(scope="module")
def recorded(answers: dict[str, Shape]) -> dict[str, Shape]:
    """What dockerd answers."""
    if RECORD:
        assert TARGET
        RECORDED.write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n")
    said: dict[str, Shape] = json.loads(RECORDED.read_text())
    return said


def differences(theirs: Shape, ours: Shape) -> dict[str, tuple[str, str]]:
    """Return where two answers differ, with what is there in each."""
    paths = sorted(theirs.keys() | ours.keys())
    pairs = {path: (theirs.get(path, ""), ours.get(path, "")) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def test_each_field_is_dockerds(answers: dict[str, Shape], recorded: dict[str, Shape]) -> None:
    meant: tuple[Meant, ...] = () if TARGET else MEANT
    assert answers.keys() == recorded.keys()
    unused, wrong = set(meant), list[str]()
    for name, theirs in recorded.items():
        if TARGET and name == "stats" and ".memory_stats.usage" not in answers[name]:
            continue  # dockerd's shim finds no counters in some layouts of cgroups, and dockerd sends an empty sample
        for path, (said, ours) in differences(theirs, answers[name]).items():
            fitting = [each for each in meant if re.fullmatch(each.answers, name) and re.fullmatch(each.paths, path)]
            unused -= set(fitting)
            if not fitting:
                wrong.append(f"{name} {path}: dockerd {said or '-'}, here {ours or '-'}")
    assert not wrong, "\n".join(wrong)
    assert not unused
