"""Contexts: kept as Docker keeps them, and which engine a command line is about."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, NotFoundError
from sampan.layout import Layout
from sampan_cli.app.engines import choose
from sampan_cli.app.session import CommandError, Session
from sampan_cli.credentials.contexts import Context, ContextStore, check_name, packed, unpacked
from sampan_cli.remote.hosts import TcpHost

SIDE = Context("side", "unix:///run/side/docker.sock", "for tests", "/var/lib/side")
TLS = {"ca": b"authority", "cert": b"certificate", "key": b"key"}
REMOTE = Context("remote", "tcp://192.0.2.1:2376", tls=TLS)
ODD = Context("odd", "npipe:////./pipe/docker_engine")


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path)


def test_context_is_where_docker_looks_for_it(store: ContextStore, tmp_path: Path) -> None:
    store.add(SIDE)
    # SHA-256 of "side"
    file = tmp_path / "contexts/meta/ea7bf4bb723041e7d63fe6c74dc46c048c617eb49a454a1cd6edbf34d05a418e/meta.json"
    document = json.loads(file.read_text())
    assert document["Endpoints"] == {"docker": {"Host": SIDE.host, "SkipTLSVerify": False}}
    assert store.get("side") == SIDE
    assert store.all() == [SIDE]


def test_context_in_use_is_in_docker_s_settings_beside_what_else_is_there(store: ContextStore, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"auths": {"x": {}}}')
    store.add(SIDE)
    store.use("side")
    assert json.loads(config.read_text()) == {"auths": {"x": {}}, "currentContext": "side"}
    assert config.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError, match="in use"):
        store.remove("side", force=False, current="side")
    store.remove("side", force=True, current="side")
    assert json.loads(config.read_text()) == {"auths": {"x": {}}}
    with pytest.raises(NotFoundError):
        store.remove("side", force=False, current="default")


@pytest.mark.parametrize("name", ["default", "x", "a b", "../x", "", "-a"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_name(name)


def test_one_name_is_one_context(store: ContextStore) -> None:
    store.add(SIDE)
    with pytest.raises(AlreadyExistsError):
        store.add(SIDE)
    with pytest.raises(NotFoundError, match='context "other": context not found'):
        store.use("other")


def test_export_can_be_imported_under_another_name() -> None:
    assert unpacked(packed(SIDE), "two") == Context("two", SIDE.host, SIDE.description, SIDE.data_root)
    for rubbish in (b"", b"rubbish", packed(SIDE)[:600]):
        with pytest.raises(InvalidArgumentError, match="no exported context"):
            unpacked(rubbish, "two")


def test_what_tls_is_spoken_with_is_kept_where_docker_looks_and_travels_along(
    store: ContextStore, tmp_path: Path
) -> None:
    store.add(REMOTE)
    assert store.get("remote") == REMOTE
    assert unpacked(packed(REMOTE), "remote") == REMOTE
    host = store.reached(REMOTE)
    assert isinstance(host, TcpHost)
    assert host.tls is not None
    assert host.tls.verify
    assert Path(host.tls.key).read_bytes() == b"key"
    assert Path(host.tls.key).stat().st_mode & 0o777 == 0o600
    # SHA-256 of "remote"
    (directory,) = tmp_path.glob("contexts/tls/*/docker")
    assert Path(host.tls.key).parent == directory
    store.put(replace(REMOTE, tls={}))
    assert store.get("remote").tls == {}
    store.add(replace(REMOTE, name="other"))
    store.remove("other", force=False, current="default")
    assert not list(tmp_path.glob("contexts/tls/*/docker"))


def test_context_elsewhere_is_gone_to(store: ContextStore, tmp_path: Path) -> None:
    store.add(REMOTE)
    chosen = session()
    choose(chosen, host="", context="remote", managing=False, environ={"DOCKER_CONFIG": str(tmp_path)})
    assert str(chosen.elsewhere) == REMOTE.host
    with pytest.raises(CommandError, match=r"`sampan down` is about an engine of the machine.*not about tcp://192"):
        chosen.here("down")


def test_host_of_the_environment_gives_way_to_whatever_is_said(store: ContextStore, tmp_path: Path) -> None:
    store.add(SIDE)
    environ = {"DOCKER_CONFIG": str(tmp_path), "SAMPAN_HOST": "ssh://there"}
    chosen = session()
    choose(chosen, host="", context="", managing=False, environ=environ)
    assert str(chosen.elsewhere) == "ssh://there"
    for host, context in (("unix:///x/docker.sock", ""), ("", "side")):
        chosen = session()
        choose(chosen, host=host, context=context, managing=False, environ=environ)
        assert chosen.elsewhere is None
    given = Session(Layout(Path("/d"), Path("/r")))
    choose(given, host="", context="", managing=False, environ=environ)
    assert given.elsewhere is None


def test_damaged_file_is_named(store: ContextStore, tmp_path: Path) -> None:
    store.add(SIDE)
    (file,) = tmp_path.glob("contexts/meta/*/meta.json")
    for damage in ("{", "[]", '{"Name": "side", "Endpoints": 5}'):
        file.write_text(damage)
        with pytest.raises(InvalidArgumentError, match=r"meta\.json"):
            store.get("side")


def session() -> Session:
    return Session.from_environment({})


def roots(chosen: Session) -> tuple[str, str]:
    return str(chosen.layout.data_root), str(chosen.layout.run_root)


def test_host_comes_before_contexts(store: ContextStore, tmp_path: Path) -> None:
    store.add(SIDE)
    store.use("side")
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    chosen = session()
    choose(chosen, host="unix:///run/x/docker.sock", context="", managing=False, environ=environ)
    assert roots(chosen)[1] == "/run/x"
    chosen = session()
    choose(chosen, host="", context="", managing=False, environ=environ)
    assert roots(chosen) == ("/var/lib/side", "/run/side")
    chosen = session()
    choose(chosen, host="", context="default", managing=False, environ=environ)
    assert chosen.layout == session().layout
    with pytest.raises(CommandError, match="either specify --host or --context"):
        choose(session(), host="unix:///x/docker.sock", context="side", managing=False, environ=environ)


def test_run_root_that_is_given_comes_before_the_context_in_use(store: ContextStore, tmp_path: Path) -> None:
    store.add(SIDE)
    store.use("side")
    given = Session(Layout(Path("/d"), Path("/r")))
    choose(given, host="", context="", managing=False, environ={"DOCKER_CONFIG": str(tmp_path)})
    assert roots(given) == ("/d", "/r")
    named = Session(Layout(Path("/d"), Path("/r")))
    choose(
        named, host="", context="", managing=False, environ={"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "side"}
    )
    assert roots(named)[1] == "/run/side"


def test_context_that_leads_nowhere_from_here_is_refused_but_can_be_managed(
    store: ContextStore, tmp_path: Path
) -> None:
    store.add(ODD)
    store.use("odd")
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    with pytest.raises(CommandError, match=r"no engine that sampan reaches.*context use default"):
        choose(session(), host="", context="", managing=False, environ=environ)
    choose(session(), host="", context="", managing=True, environ=environ)
    with pytest.raises(CommandError, match=r"context not found$"):
        choose(session(), host="", context="gone", managing=False, environ=environ)
