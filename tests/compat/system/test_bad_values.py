"""Values that cannot be, in every place where a client can put one: refused with a sentence, and nothing stays.

The table of the HTTP API also runs against dockerd, which answers 500 for what its JSON decoder refuses, and takes
some of it at a create to fail at the start; those rows say so. The table of the gRPC services is made from the
descriptors: a field that is added is in it.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration

from sampan.api.runtime.v1 import spec_pb2
from sampan.client.convert.containers import SPEC
from sampan.engine.engine import Engine as Services
from sampan.errors import SampanError
from sampan.resource.listing import ALL
from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import Engine

Send = Callable[..., tuple[int, str]]

BEYOND: Final = "9223372036854775808"
LOW: Final = "-9223372036854775809"
HUGE: Final = "1" + "0" * 20


@dataclass(frozen=True, slots=True)
class Bad:
    """One value; ``body`` and ``path`` have ``{}`` where an image or a container is named."""

    field: str  # what the refusal names
    body: str = ""
    path: str = "/containers/create"
    method: str = "POST"
    docker_takes_it: bool = False  # at this point; it fails later, or does what it can

    def __str__(self) -> str:
        return f"{self.path} {self.field} {self.body[:200]}".replace('"Image":"IMAGE","Cmd":["true"],', "")[:120]


def _host(field: str, value: str) -> Bad:
    return Bad(field, f'{{"Image":"IMAGE","Cmd":["true"],"HostConfig":{{"{field}":{value}}}}}')


def _config(field: str, value: str) -> Bad:
    return Bad(field, f'{{"Image":"IMAGE","Cmd":["true"],"{field}":{value}}}')


NUMBERS: Final = (
    "Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "PidsLimit",
    "MemorySwappiness", "ShmSize",
)  # fmt: skip
NARROW: Final = (("BlkioWeight", "65536"), ("BlkioWeight", "-1"))
CREATES: Final = (
    *(_host(name, value) for name in NUMBERS for value in (BEYOND, LOW, "1.5", "1e400", '"1"', "true", "[]")),
    *(_host(name, value) for name, value in NARROW),
    _host("OomScoreAdj", BEYOND),
    _host("Ulimits", f'[{{"Name":"nofile","Soft":{BEYOND},"Hard":1}}]'),
    _host("ConsoleSize", "[-1,1]"),
    _host("RestartPolicy", f'{{"Name":"on-failure","MaximumRetryCount":{BEYOND}}}'),
    _host("Mounts", f'[{{"Type":"tmpfs","Target":"/t","TmpfsOptions":{{"SizeBytes":{BEYOND}}}}}]'),
    _config("StopTimeout", BEYOND),
    _config("Healthcheck", f'{{"Test":["NONE"],"Interval":{BEYOND}}}'),
    _config("Healthcheck", f'{{"Test":["NONE"],"Retries":{BEYOND}}}'),
)
MEANINGLESS: Final = (
    Bad("memory limit", _host("Memory", "9223372036854775807").body, docker_takes_it=True),
    Bad("SHM size", _host("ShmSize", "9223372036854775807").body, docker_takes_it=True),
    Bad("PIDs limit", _host("PidsLimit", "9223372036854775807").body, docker_takes_it=True),
    Bad("CPU shares", _host("CpuShares", "9223372036854775807").body, docker_takes_it=True),
    Bad("CPU cfs quota", _host("CpuQuota", "9223372036854775807").body, docker_takes_it=True),
    Bad("ConsoleSize", _host("ConsoleSize", f"[{BEYOND},1]").body, docker_takes_it=True),
    Bad("cpuset cpus", _host("CpusetCpus", '"0\\n"').body),
    Bad("cpuset mems", _host("CpusetMems", '"²"').body),
    Bad("oom score adj", _host("OomScoreAdj", "1001").body),
    Bad("max-size", _host("LogConfig", f'{{"Type":"json-file","Config":{{"max-size":"{HUGE}"}}}}').body,
        docker_takes_it=True),
    Bad("max-file", _host("LogConfig", f'{{"Type":"json-file","Config":{{"max-file":"{HUGE}"}}}}').body,
        docker_takes_it=True),
    Bad("size=", _host("Tmpfs", f'{{"/t":"size={HUGE}"}}').body, docker_takes_it=True),
    Bad("cgroup parent", _host("CgroupParent", '"a\\u0000b"').body, docker_takes_it=True),
    Bad("group", _host("GroupAdd", '["\\u0000"]').body, docker_takes_it=True),
    Bad("NUL", _config("Cmd", '["a\\u0000b"]').body, docker_takes_it=True),
    Bad("NUL", _config("Env", '["A=\\u0000"]').body, docker_takes_it=True),
    Bad("file name too long", _config("Cmd", json.dumps(["x" * 70_000])).body, docker_takes_it=True),
    Bad("hostname", _config("Hostname", '"a\\u0000b"').body, docker_takes_it=True),
    Bad("port", _config("ExposedPorts", f'{{"{HUGE}/tcp":{{}}}}').body.replace(HUGE, "9" * 5000),
        docker_takes_it=True),
)  # fmt: skip
QUERIES: Final = (
    *(Bad("limit", path=f"/containers/json?limit={value}", method="GET") for value in (BEYOND, "x", "1.5", "9" * 5000)),
    *(Bad("t", path=f"/containers/CONTAINER/{verb}?t={BEYOND}") for verb in ("stop", "restart")),
    *(Bad("height", path=f"/containers/CONTAINER/resize?h={value}&w=1") for value in ("65536", "-1")),
    *(Bad("since", path=f"/containers/CONTAINER/logs?stdout=1&since={value}", method="GET") for value in (HUGE, "nan")),
    *(Bad("until", path=f"/events?since=1&until={value}", method="GET") for value in (HUGE, "9" * 5000)),
    Bad("signal", path=f"/containers/CONTAINER/kill?signal={HUGE}"),
    Bad("name", path="/containers/CONTAINER/rename?name=a%00b"),
    Bad("max depth", '{"Image":' + "[" * 100_000 + "]" * 100_000 + "}"),
    Bad("max depth", '{"Image":"IMAGE","Unknown":' + '{"a":' * 11_000 + "1" + "}" * 11_001),
    Bad("invalid", '{"Image":"IMAGE","HostConfig":{"Memory":NaN}}'),
    Bad("values", '{"Image":"IMAGE","Cmd":[' + "[]," * 600_000 + "[]]}"),
    Bad("Memory", f'{{"Memory":{BEYOND}}}', path="/containers/CONTAINER/update"),
    Bad("cpuset", '{"CpusetCpus":"0\\n"}', path="/containers/CONTAINER/update"),
    Bad("NUL", '{"Cmd":["a\\u0000"]}', path="/containers/CONTAINER/exec", docker_takes_it=True),
    Bad("gateway", '{"Name":"bad","IPAM":{"Config":[{"Subnet":"10.211.0.0/24","Gateway":"10.211.0.0"}]}}',
        path="/networks/create"),
    Bad("gateway", '{"Name":"bad","IPAM":{"Config":[{"Subnet":"10.211.0.0/24","Gateway":"10.211.0.255"}]}}',
        path="/networks/create"),
    Bad("mtu", f'{{"Name":"bad","Options":{{"com.docker.network.driver.mtu":"{HUGE}"}}}}', path="/networks/create"),
    Bad("MTU", '{"Name":"bad","Options":{"com.docker.network.driver.mtu":"-1"}}', path="/networks/create"),
    Bad("name", '{"Name":"a\\u0000"}', path="/volumes/create"),
    Bad("filter", path="/containers/json?filters=" + "[" * 5000, method="GET"),
)  # fmt: skip


@pytest.fixture
def send(docker: DockerClient, image: str, sleeper: str) -> Send:
    """Send one request about an image and a running container; return status and message."""

    def request(bad: Bad) -> tuple[int, str]:
        connection = UnixConnection(docker.host.removeprefix("unix://"))
        path = bad.path.replace("CONTAINER", sleeper)
        headers = {"Content-Type": "application/json"} if bad.body else {}
        try:
            connection.request(bad.method, path, bad.body.replace("IMAGE", image).encode() or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return request


@pytest.mark.parametrize("bad", [*CREATES, *MEANINGLESS, *QUERIES], ids=str)
def test_value_that_cannot_be_is_refused_by_name(docker: DockerClient, send: Send, bad: Bad) -> None:
    before = docker("ps", "--all", "--quiet").lines, docker("network", "ls", "--quiet").lines
    status, said = send(bad)
    if TARGET:
        if not bad.docker_takes_it and bad.field != "values":
            assert status >= 400 or bad.path.startswith("/containers/CONTAINER"), said
        if status == 201 and '"Id"' in said and bad.path == "/containers/create":
            docker("rm", json.loads(said)["Id"])
        return
    assert 400 <= status < 500, said
    assert bad.field.lower() in said.lower()
    assert len(said) < 10_000
    assert (docker("ps", "--all", "--quiet").lines, docker("network", "ls", "--quiet").lines) == before


@pytest.mark.parametrize("field", ["Env", "Labels", "Hostname"])
def test_half_of_a_surrogate_pair_becomes_the_replacement_character(
    docker: DockerClient, send: Send, field: str
) -> None:
    value = {"Env": '["A=\\ud800"]', "Labels": '{"a":"\\udfff"}', "Hostname": '"\\ud83d\\ude00"'}[field]
    status, said = send(_config(field, value))
    assert status == 201, said
    identity = json.loads(said)["Id"]
    (found,) = json.loads(docker("inspect", identity).stdout)
    docker("rm", identity)
    shown = json.dumps(found["Config"][field], ensure_ascii=False)
    assert ("😀" if field == "Hostname" else "\ufffd") in shown


INTEGERS: Final[dict[int, tuple[int, ...]]] = {
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1, -1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1, -1),
    FieldDescriptor.TYPE_UINT32: (2**32 - 1,),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (2**64 - 1, 2**63),
}
TEXTS: Final = ("\0", "a\0b", "\n", "x" * 70_000, "\u202e", "../..", "9" * 5000)
OTHERS: Final[dict[int, tuple[Any, ...]]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_BYTES: (b"\xff",),
    FieldDescriptor.TYPE_ENUM: (7,),
}
Fill = Callable[[Any], object]
SPANS: Final = ((2**63 - 1, 0), (-(2**63), 0), (0, -(2**31)), (1, 2**31 - 1))


def fillings(message: Any, path: str = "") -> Iterator[tuple[str, Fill]]:
    """Yield the path of every field below ``message``, and a function that puts a bad value there, for each value."""
    for field in message.DESCRIPTOR.fields:
        name, repeated = field.name, field.is_repeated
        if field.message_type is None:
            for value in INTEGERS.get(field.type) or OTHERS.get(field.type, (True,)):
                yield path + name, _putter(name, value, repeated=repeated)
        elif field.message_type.GetOptions().map_entry:
            for text in TEXTS:
                yield path + name, _putter(name, {text: text})
        elif field.message_type.full_name == "google.protobuf.Duration":
            for seconds, nanos in SPANS:
                yield path + name, _putter(name, Duration(seconds=seconds, nanos=nanos))
        else:
            inner = getattr(type(message)(), name)
            for below, fill in fillings(inner.add() if repeated else inner, f"{path}{name}."):
                yield below, _filler(name, fill, repeated=repeated)


def _putter(name: str, value: Any, *, repeated: bool = False) -> Fill:
    def put(message: Any) -> None:
        if repeated:
            getattr(message, name).append(value)
        elif isinstance(value, dict):
            getattr(message, name).update(value)
        elif isinstance(value, Duration):
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)

    return put


def _filler(name: str, fill: Fill, *, repeated: bool) -> Fill:
    return lambda message: fill(getattr(message, name).add() if repeated else getattr(message, name))


@pytest.mark.skipif(bool(TARGET), reason="dockerd has no such services")
@pytest.mark.usefixtures("nothing_left")
def test_no_field_of_a_spec_makes_a_service_fail(engine: Engine, image: str) -> None:
    """Refused or taken: never an internal error, and what is taken can be shown and removed."""

    async def try_all() -> list[str]:
        failed = []
        async with Services.connect(engine.layout) as services:
            for path, fill in fillings(spec_pb2.ContainerSpec()):
                spec = spec_pb2.ContainerSpec(image=image, process=spec_pb2.Process(cmd=["true"]))
                fill(spec)
                try:
                    identity = (await services.create_container(SPEC.decode(spec))).id
                    await services.runtime.containers.get(identity)
                    await services.runtime.containers.list(ALL)
                    await services.runtime.containers.remove(identity, force=True, volumes=True)
                except SampanError:
                    continue
                except grpc.aio.AioRpcError as error:
                    failed.append(f"{path}: {error.details()}")
        return failed

    assert asyncio.run(try_all()) == []


@pytest.mark.skipif(bool(TARGET), reason="about the engine's own command line")
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "--rm", "--memory", BEYOND, "IMAGE", "true"), BEYOND),
        (("run", "--rm", "--pids-limit", HUGE, "IMAGE", "true"), HUGE),
        (("run", "--rm", "--ulimit", f"nofile={HUGE}", "IMAGE", "true"), HUGE),
        (("run", "--rm", "--stop-timeout", HUGE, "IMAGE", "true"), HUGE),
        (("run", "--rm", "--oom-score-adj", "99999999999", "IMAGE", "true"), "99999999999"),
        (("run", "--rm", "--env", "A=\udcff", "IMAGE", "true"), "is not UTF-8"),
        (("ps", "--last", HUGE), HUGE),
        (("logs", "--tail", HUGE, "nothing"), HUGE),
        (("stop", "--time", HUGE, "nothing"), HUGE),
        (("events", "--since", HUGE, "--until", "1"), HUGE),
    ],
)
def test_command_line_refuses_what_no_request_holds(
    engine: Engine, image: str, arguments: tuple[str, ...], named: str
) -> None:
    failed = engine.sampan_fails(*(argument.replace("IMAGE", image) for argument in arguments))
    assert failed.code == (125 if arguments[0] == "run" else 1)
    assert named in failed.stderr
    assert "Traceback" not in failed.stderr
