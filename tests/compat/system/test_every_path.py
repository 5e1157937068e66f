"""Every path of the Docker API's reference, version 1.50, asked about what is not there.

Each answers as dockerd does, whose status stands in the table and which the table is tried on, too; or its line in
``OWN`` says why not. Versions are tried in ``test_api.py``, what each path does in the tests of its noun.
"""

import json
from typing import Final

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient, UnixConnection

TABLE: Final = """
200 GET /containers/json
404 GET /containers/no/json
404 GET /containers/no/top
404 GET /containers/no/logs?stdout=1
404 GET /containers/no/changes
404 GET /containers/no/export
404 GET /containers/no/stats?stream=0
404 POST /containers/no/resize?h=1&w=1
404 POST /containers/no/start
404 POST /containers/no/stop
404 POST /containers/no/restart
404 POST /containers/no/kill
404 POST /containers/no/update {}
404 POST /containers/no/rename?name=x
404 POST /containers/no/pause
404 POST /containers/no/unpause
404 POST /containers/no/attach?stream=1
404 GET /containers/no/attach/ws?stream=1
404 POST /containers/no/wait
404 DELETE /containers/no
404 HEAD /containers/no/archive?path=/
404 GET /containers/no/archive?path=/
404 PUT /containers/no/archive?path=/
200 POST /containers/prune?filters={"label":["no"]}
400 POST /containers/create {}
404 POST /containers/create {"Image":"no:1"}
501 GET /containers/no/checkpoints
501 POST /containers/no/checkpoints {}
501 DELETE /containers/no/checkpoints/x
200 GET /images/json
500 POST /build
200 POST /build/prune?filters={"id":["no"]}
500 POST /build/cancel
200 POST /build/cancel?id=no
500 POST /images/create
500 POST /images/create?fromImage=127.0.0.1:1/x&tag=1
404 GET /images/no/json
404 GET /images/no/history
400 POST /images/no/push
404 POST /images/no/tag?repo=x&tag=1
404 DELETE /images/no
404 GET /images/no/get
404 GET /images/get?names=no
200 GET /images/get
200 POST /images/load
500 GET /images/search?term=127.0.0.1:1/x
500 GET /images/search
200 POST /images/prune?filters={"label":["no"]}
500 POST /auth {"serveraddress":"127.0.0.1:1","username":"a","password":"b"}
200 GET /info
200 GET /version
200 GET /_ping
200 HEAD /_ping
404 POST /commit?container=no
200 GET /events?since=0&until=1
200 GET /system/df
404 POST /containers/no/exec {"Cmd":["true"]}
404 POST /exec/no/start {}
404 POST /exec/no/resize?h=1&w=1
404 GET /exec/no/json
200 GET /volumes
400 POST /volumes/create {"Name":"/"}
404 GET /volumes/no
404 PUT /volumes/no?version=1
404 DELETE /volumes/no
200 POST /volumes/prune?filters={"label":["no"]}
200 GET /networks
200 GET /networks/
404 GET /networks/no
404 DELETE /networks/no
500 POST /networks/create {}
400 POST /networks/no/connect {}
400 POST /networks/no/disconnect {}
404 POST /networks/no/connect {"Container":"no"}
404 POST /networks/no/disconnect {"Container":"no"}
200 POST /networks/prune?filters={"label":["no"]}
200 GET /plugins
200 GET /plugins/privileges?remote=x
500 POST /plugins/pull?remote=x
404 GET /plugins/no/json
404 DELETE /plugins/no
404 POST /plugins/no/enable?timeout=1
404 POST /plugins/no/disable
500 POST /plugins/no/upgrade?remote=x
500 POST /plugins/create?name=x
404 POST /plugins/no/push
404 POST /plugins/no/set ["a=b"]
503 GET /nodes
503 GET /nodes/no
503 DELETE /nodes/no
503 POST /nodes/no/update?version=1 {}
503 GET /swarm
400 POST /swarm/init {}
400 POST /swarm/join {}
503 POST /swarm/leave
503 POST /swarm/update?version=1 {}
503 GET /swarm/unlockkey
503 POST /swarm/unlock {}
503 GET /services
503 POST /services/create {}
503 GET /services/no
503 DELETE /services/no
503 POST /services/no/update?version=1 {}
503 GET /services/no/logs?stdout=1
503 GET /tasks
503 GET /tasks/no
503 GET /tasks/no/logs?stdout=1
503 GET /secrets
503 POST /secrets/create {}
503 GET /secrets/no
503 DELETE /secrets/no
503 POST /secrets/no/update?version=1 {}
503 GET /configs
503 POST /configs/create {}
503 GET /configs/no
503 DELETE /configs/no
503 POST /configs/no/update?version=1 {}
500 GET /distribution/127.0.0.1:1/x/json
400 POST /session
500 POST /grpc
200 OPTIONS /containers/json
404 GET /nothing
404 DELETE /images/json
"""
ROWS: Final = tuple(TABLE.split("\n")[1:-1])

_BAD: Final = "a bad request is the client's fault, as later versions of dockerd say, too"
_INSTALL: Final = "plugins that the engine would install are not supported"
_SWARM: Final = "there is no swarm"
# Where the status is another one, and why.
OWN: Final = {
    "POST /build": (400, _BAD),
    "POST /build/cancel": (400, _BAD),
    "POST /images/create": (400, _BAD),
    "POST /images/no/push": (200, "credentials may be left out; that the image is not here is told in the stream"),
    "GET /images/get": (400, "an archive of nothing helps nobody"),
    "GET /images/search": (400, _BAD),
    "POST /networks/create {}": (400, _BAD),
    "GET /plugins/privileges?remote=x": (501, _INSTALL),
    "POST /plugins/pull?remote=x": (501, _INSTALL),
    "POST /plugins/no/upgrade?remote=x": (404, "none is installed"),
    "POST /plugins/create?name=x": (501, _INSTALL),
    "POST /swarm/init {}": (501, _SWARM),
    "POST /swarm/join {}": (501, _SWARM),
    "POST /grpc": (400, _BAD),
}


@pytest.mark.parametrize("row", ROWS)
def test_a_path_of_the_reference_answers_as_dockerd_does_or_says_what_it_is(docker: DockerClient, row: str) -> None:
    status, asked = row.split(" ", 1)
    method, path, *body = asked.split(" ", 2)
    if not TARGET and asked in OWN:
        status = str(OWN[asked][0])
    connection = UnixConnection(docker.host.removeprefix("unix://"), timeout=60)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, f"/v1.41{path}".replace('"', "%22"), body[0] if body else None, headers)
        answer = connection.getresponse()
        said = answer.read() if answer.status >= 400 else b""
    finally:
        connection.close()
    assert (answer.status, asked) == (int(status), asked), said
    if said and answer.headers["Content-Type"] == "application/json":
        assert json.loads(said)["message"]


def test_what_is_said_to_differ_is_in_the_table() -> None:
    assert OWN.keys() <= {row.split(" ", 1)[1] for row in ROWS}
