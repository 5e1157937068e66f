"""No secret of a request is written down, wherever in it somebody has put one, and what is none still is."""

import json

import pytest

from dockerapi.audit.redaction import redacted, redacted_text

S = "hunter2"

COMMANDS = {
    "a password as an option": ["app", "--db-password=" + S, "serve"],
    "a password as the next word": ["app", "--password", S, "serve"],
    "a password of several words": ["app", "--passphrase", f"{S} and {S}"],
    "a token": ["app", "--github-token", S],
    "a key": ["app", "--api-key", S, "--accessKey", S],
    "one dash": ["app", "-password", S],
    "a shell's command": ["sh", "-c", f"app --password {S} serve"],
    "a quoted one": ["sh", "-c", f"app --password \"{S} and {S}\"; app --secret '{S} x {S}'"],
    "within quotes": ["CMD-SHELL", f'sh -c "app --token {S} --x" || exit 1'],
    "a quote that does not end": ["sh", "-c", f'app --password "{S} and {S}'],
    "a variable before a program": ["CMD-SHELL", f"PGPASSWORD={S} pg_isready"],
    "a variable that is called nothing special": ["env", f"CONFIG={S}", "app"],
    "a quoted variable": ["sh", "-c", f'CONFIG="{S} and {S}" app'],
    "mysqladmin": ["CMD", "mysqladmin", "ping", "-uroot", f"-p{S}"],
    "mariadb in a shell": ["CMD-SHELL", f"/usr/bin/mariadb-admin ping -p{S} -h localhost || exit 1"],
    "redis": ["CMD", "redis-cli", "-a", S, "ping"],
    "redis in a shell": ["CMD-SHELL", f"redis-cli -h x -a {S} ping | grep PONG"],
    "sshpass": ["sshpass", f"-p{S}", "ssh", "me@there"],
    "a login": ["docker", "login", "-u", "me", "-p", S, "there"],
    "curl's user": ["CMD", "curl", "-u", f"me:{S}", "http://there"],
    "curl's user in a shell": ["CMD-SHELL", f"curl --user 'me:{S}' http://there"],
    "a header": ["curl", "-H", f"Authorization: Bearer {S}", "-H", f"X-Vault-Token: {S}"],
    "a header in a shell": ["CMD-SHELL", f"curl -H 'Authorization: Basic {S}' -H \"Cookie: a={S}; b={S}\" x"],
    "JSON": ["curl", "-d", json.dumps({"user": "me", "password": S, "api_key": S})],
    "JSON in a shell": ["CMD-SHELL", f"curl -d '{json.dumps({'password': S})}' x"],
    "a query": ["curl", f"http://there/?a=1&token={S}&b=2"],
    "an address": ["psql", f"postgres://me:{S}@there/db"],
    "an address with a token alone": ["git", "clone", f"https://{S}@there/x.git"],
    "an address with an @ in the password": ["psql", f"postgres://me:{S}@{S}@there/db"],
}

BODIES: dict[str, object] = {
    "variables": {"Env": [f"ANY={S}", "BARE"]},
    "arguments of a build": {"BuildArgs": {"any": S}, "FrontendAttrs": {"build-arg:any": S}},
    "a login": {"username": "me", "password": S, "identitytoken": S, "registrytoken": S, "auth": S},
    "labels": {"Labels": {"app.password": S, "traefik.middlewares.x.basicauth.users": f"me:{S}", "some.apiKey": S}},
    "annotations": {"HostConfig": {"Annotations": {"x-secret": S}}},
    "options of a log driver": {
        "HostConfig": {"LogConfig": {"Config": {"splunk-token": S, "url": f"http://me:{S}@x"}}}
    },
    "options of a volume": {"DriverOpts": {"type": "cifs", "o": f"username=me,password={S},vers=3"}},
    "its other word for it": {"DriverOpts": {"o": f"pass={S},user=me"}},
    "options of a volume's driver": {"DriverOpts": {"secretKey": S, "storage-account-key": S, "pass": S}},
    "a mount's volume": {
        "HostConfig": {
            "Mounts": [{"VolumeOptions": {"DriverConfig": {"Options": {"o": f"password={S}", "access_key": S}}}}]
        }
    },
    "options of a network": {"Options": {"encryption.key": S}, "IPAM": {"Options": {"token": S}}},
    "settings of a plugin": [f"PASSWORD={S}", f"any.password={S}", f"ANY={S}"],
    "a swarm's secret": {"Name": "x", "Data": S},
    "a swarm's keys": {"JoinToken": S, "UnlockKey": S, "CAConfig": {"SigningCAKey": S}},
    "a filter": json.dumps({"label": [f"password={S}"]}),
    "an error": f'cannot start: "--password {S}" is no option',
}

HARMLESS: dict[str, object] = {
    "a command": ["nginx", "-g", "daemon off;"],
    "a shell's": ["sh", "-c", "while sleep 1; do echo tick >> /log; done"],
    "options": ["app", "-p", "8080:80", "--port", "80", "--user", "1000", "-a", "x"],
    "a health check": {"Healthcheck": {"Test": ["CMD-SHELL", "curl -f http://localhost:80/health || exit 1"]}},
    "a repository": "https://github.com/a/b.git#main:dir",
    "an address of SSH's": "ssh://git@there/a.git",
    "who wrote it": {"Author": "me <me@there>", "authors": "us", "key": "a snapshot", "DetachKeys": "ctrl-p"},
    "labels": {"Labels": {"com.docker.compose.project": "x", "tool": "monkeypatch"}},
    "times": "2026-01-01T00:00:00Z",
    "a digest": "sha256:" + "a" * 64,
    "a path": "/var/lib/tokens/x",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("place", ["Cmd", "Entrypoint", "Healthcheck.Test", "process.args"])
def test_no_secret_of_a_command_is_written_down(command: list[str], place: str) -> None:
    body: object = list(command)
    for name in reversed(place.split(".")):
        body = {name: body}
    shown = json.dumps(redacted(body))
    assert S not in shown
    assert command[0] in shown


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_nor_where_the_command_is_one_text(command: list[str]) -> None:
    quoted = ["'" + word.replace("'", '"') + "'" if " " in word else word for word in command]
    assert S not in redacted_text(" ".join(quoted))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_no_secret_of_a_body_is_written_down(body: object) -> None:
    shown = json.dumps(redacted(body))
    assert S not in shown
    assert "***" in shown


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS)
def test_what_is_no_secret_is(body: object) -> None:
    assert redacted(body) == body


def test_redaction_is_bounded() -> None:
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"a": deep}
    assert len(json.dumps(redacted({"a": 1, **deep}))) < 100
    assert len(json.dumps(redacted(["x" * 5000] * 5000))) < 30_000
    for unpleasant in (
        '"' * 5000,
        "'\" " * 5000,
        "\\" * 5000,
        "A=" * 5000,
        "://" * 5000,
        "password" * 5000,
        "-p " * 5000,
    ):
        assert len(redacted_text(unpleasant)) < 2000


def test_a_secret_that_begins_before_the_end_of_what_is_read_is_none_either() -> None:
    for length in range(400, 720):
        assert S not in redacted_text("x" * length + f" --password {S * 50}")
