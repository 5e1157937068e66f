"""The API itself, request by request: what the docker program never sends, but others do."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.docker_client import DockerClient, UnixConnection

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(docker: DockerClient) -> Iterator[Ask]:
    """Send one request; return status and parsed body."""
    connections: list[UnixConnection] = []

    def send(method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = UnixConnection(docker.host.removeprefix("unix://"))
        connections.append(connection)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        implied = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
        connection.request(method, path, content, implied | (headers or {}))
        answer = connection.getresponse()
        return answer.status, _parse(answer)

    yield send
    for connection in connections:
        connection.close()


def _parse(answer: http.client.HTTPResponse) -> Any:
    content = answer.read()
    return json.loads(content) if answer.headers.get_content_type() == "application/json" and content else content


def test_ping_tells_versions_in_headers(docker: DockerClient) -> None:
    for method in ("GET", "HEAD"):
        connection = UnixConnection(docker.host.removeprefix("unix://"))
        connection.request(method, "/_ping")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Api-Version"]
        assert answer.headers["Ostype"] == "linux"
        assert answer.read() == (b"OK" if method == "GET" else b"")
        connection.close()


def test_path_works_with_and_without_a_version(ask: Ask) -> None:
    assert ask("GET", "/version")[1]["ApiVersion"] == ask("GET", "/v1.30/version")[1]["ApiVersion"]


def test_version_that_is_too_new_is_refused_with_docker_s_sentence(ask: Ask) -> None:
    status, body = ask("GET", "/v9.99/version")
    assert status == 400
    assert "client version 9.99 is too new. Maximum supported API version is" in body["message"]


def test_unknown_path_is_page_not_found(ask: Ask) -> None:
    assert ask("GET", "/v1.41/nonsense") == (404, {"message": "page not found"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/containers/nobody/json", 404),
        ("POST", "/containers/nobody/start", 404),
        ("DELETE", "/containers/nobody", 404),
        ("GET", "/images/nonesuch/json", 404),
        ("GET", "/exec/nonesuch/json", 404),
        ("GET", "/networks/nonesuch", 404),
        ("GET", "/volumes/nonesuch", 404),
        ("GET", "/containers/json?limit=x", 400),
        ("GET", "/containers/json?filters=%7Bnot-json", 400),
    ],
)
def test_status_is_docker_s(ask: Ask, method: str, path: str, status: int) -> None:
    got, body = ask(method, path)
    assert got == status
    assert body["message"]


def test_start_and_stop_twice_answer_304(ask: Ask, sleeper: str) -> None:
    assert ask("POST", f"/containers/{sleeper}/start")[0] == 304
    assert ask("POST", f"/containers/{sleeper}/stop")[0] == 204
    assert ask("POST", f"/containers/{sleeper}/stop")[0] == 304


def test_create_takes_json_only(ask: Ask) -> None:
    assert ask("POST", "/containers/create", b"{}", {"Content-Type": "text/plain"})[0] == 400
    assert ask("POST", "/containers/create", b"{broken", {"Content-Type": "application/json"})[0] == 400


def test_swarm_is_not_there(ask: Ask) -> None:
    status, body = ask("GET", "/services")
    assert status == 503
    assert body["message"].startswith("This node is not a swarm manager.")


def test_wait_before_the_start_gets_the_code_of_a_container_that_removes_itself(ask: Ask, image: str) -> None:
    body = {"Image": image, "Cmd": ["sh", "-c", "exit 12"], "HostConfig": {"AutoRemove": True}}
    status, created = ask("POST", "/containers/create", body)
    assert status == 201
    answers: list[tuple[int, Any]] = []
    path = f"/containers/{created['Id']}/wait?condition=removed"
    waiter = threading.Thread(target=lambda: answers.append(ask("POST", path)))
    waiter.start()
    assert ask("POST", f"/containers/{created['Id']}/start")[0] == 204
    waiter.join(60)
    assert answers[0][0] == 200
    assert answers[0][1]["StatusCode"] == 12


def test_many_idle_connections_do_not_keep_others_out(docker: DockerClient, image: str) -> None:
    idle = [UnixConnection(docker.host.removeprefix("unix://")) for _ in range(100)]
    for connection in idle:
        connection.connect()
    assert docker("run", "--rm", image, "echo", "served").line == "served"
    for connection in idle:
        connection.close()


def test_plugins_of_which_there_are_none_are_named(docker: DockerClient) -> None:
    for command in (("inspect",), ("rm",), ("enable",), ("disable",), ("set",)):
        failed = docker.fails("plugin", *command, "nosuch", *(("a=b",) if command == ("set",) else ()))
        assert failed.code == 1
        assert 'plugin "nosuch" not found' in failed.stderr
    assert docker("plugin", "ls").lines[1:] == []
