"""Docker's dialect over HTTP: one word means one thing for every kind of object, and is refused in one way.

dockerd answers 500 where its own parsers refuse a value; its sentences are what is compared.
"""

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, UnixConnection

Ask = Callable[..., tuple[int, str]]

AGED: Final = ("containers", "images", "networks")
MOMENTS: Final = (
    "1h", ".5h", "1.h", "1h2m", "+1h", "1us", "1µs", "0s", "0", "1", "1.5", "9223372036854775807",
    "2562047h47m16.854775807s", "2024-01-01", "2024-01-01T10", "2024-01-01T10:00", "2024-01-01T10:00:00.5",
    "2024-01-01Z", "2024-01-01T10:00Z", "2024-01-01T10:00:00+02:00", "2024-01-01T10:00:00-02:00",
)  # fmt: skip
NO_MOMENTS: Final = (
    "", "x", "1d", "h", "1.", "1h ", "1e3", "0x10", "٣h", "99999999999999999999", "9223372036854775808",
    "9999999999999999999h", "2562047h47m16.854775808s",
)  # fmt: skip
NO_DATES: Final = ("2024-13-01", "2024-02-30", "2024-01-01T24:00:00Z", "-1", "-1.5", "2024-01-01T", "2024-1-1")


@pytest.fixture
def ask(docker: DockerClient) -> Ask:
    """Send a request with filters; return the status and the body."""

    def request(method: str, path: str, **filters: str | list[str]) -> tuple[int, str]:
        given = {key.replace("_", "-"): [value] if isinstance(value, str) else value for key, value in filters.items()}
        connection = UnixConnection(docker.host.removeprefix("unix://"))
        try:
            connection.request(method, f"{path}?filters={quote(json.dumps(given))}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return request


def _refused(answer: tuple[int, str]) -> str:
    status, body = answer
    assert status == 400 or (TARGET and status == 500), answer
    return str(json.loads(body)["message"])


@pytest.mark.parametrize("kind", AGED)
def test_every_form_of_a_moment_is_taken_for_every_kind(ask: Ask, kind: str) -> None:
    for text in MOMENTS:
        status, body = ask("POST", f"/{kind}/prune", until=text, label="of=nobody")
        assert status == 200, (text, body)


@pytest.mark.parametrize("kind", AGED)
def test_what_is_no_moment_is_refused_in_the_same_words_for_every_kind(ask: Ask, kind: str) -> None:
    for text in NO_MOMENTS:
        said = _refused(ask("POST", f"/{kind}/prune", until=text, label="of=nobody"))
        assert said == f'failed to parse value as time or duration: "{text}"'
    for text in NO_DATES:
        said = _refused(ask("POST", f"/{kind}/prune", until=text, label="of=nobody"))
        assert said.startswith(f'parsing time "{text}"')
    said = _refused(ask("POST", f"/{kind}/prune", until=["1h", "2h"], label="of=nobody"))
    assert said == "more than one until filter specified"


def test_moments_are_before_now_and_negative_ones_after_it(
    ask: Ask, docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    name = container_name()
    identity = docker("create", "--name", name, "--label", f"of={name}", image, "true").line
    for text in ("1h", ".5h", "2024-01-01", "1.5", "1h2m3.5s"):
        assert (
            json.loads(ask("POST", "/containers/prune", until=text, label=f"of={name}")[1])["ContainersDeleted"] is None
        )
    body = ask("POST", "/containers/prune", until="-1h", label=f"of={name}")[1]
    assert json.loads(body)["ContainersDeleted"] == [identity]


@pytest.mark.parametrize("path", ["/volumes", "/networks", "/images/json"])
@pytest.mark.parametrize("value", ["t", "TRUE", "yes", "", " false "])
def test_filter_that_is_true_or_false_has_four_spellings(ask: Ask, path: str, value: str) -> None:
    assert ask("GET", path, dangling="true")[0] == 200
    assert ask("GET", path, dangling="false")[0] == 200
    assert "dangling" in _refused(ask("GET", path, dangling=value))


@pytest.mark.parametrize("option", ["enable_icc", "enable_ip_masquerade"])
def test_driver_option_that_is_neither_true_nor_false_is_refused(docker: DockerClient, option: str) -> None:
    name = f"com.docker.network.bridge.{option}"
    failed = docker.fails("network", "create", "--opt", f"{name}=yes", "not-made")
    assert failed.code == 1
    assert name in failed.stderr
    assert "yes" in failed.stderr
    assert docker.fails("network", "inspect", "not-made").code == 1


def test_names_of_volumes_and_networks_are_regular_expressions(
    docker: DockerClient, unique: Callable[[str], str]
) -> None:
    short = unique("fa")
    long = f"{short}a"
    for kind in ("volume", "network"):
        for name in (short, long):
            docker(kind, "create", name)
        try:
            for pattern, found in ((f"^{short}$", [short]), (f"^{short}", [short, long]), (f"{short}a+$", [long])):
                shown = docker(kind, "ls", "--filter", f"name={pattern}", "--format", "{{.Name}}").lines
                assert sorted(shown) == found
        finally:
            docker(kind, "rm", short, long)


@pytest.mark.parametrize("text", ["x", "1.", "1e3", "99999999999999999999"])
def test_events_and_logs_refuse_what_is_no_time(docker: DockerClient, sleeper: str, text: str) -> None:
    for path in (f"/events?since=1&until={text}", f"/containers/{sleeper}/logs?stdout=1&since={text}"):
        connection = UnixConnection(docker.host.removeprefix("unix://"))
        connection.request("GET", path)
        answer = connection.getresponse()
        status, body = answer.status, answer.read().decode()
        connection.close()
        said = _refused((status, body))
        assert text in said or (TARGET and "parsing" in said)


@pytest.mark.parametrize("value", [-1, 1, 999_999])
def test_health_check_s_times_are_a_millisecond_at_least(docker: DockerClient, image: str, value: int) -> None:
    connection = UnixConnection(docker.host.removeprefix("unix://"))
    body = json.dumps({"Image": image, "Healthcheck": {"Test": ["CMD", "true"], "Interval": value}})
    connection.request("POST", "/containers/create", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, said = answer.status, answer.read().decode()
    connection.close()
    assert status == 400
    assert "Interval in Healthcheck cannot be less than 1ms" in said
