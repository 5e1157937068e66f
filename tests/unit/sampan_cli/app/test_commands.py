"""Commands that ask the engine and print, against a small engine."""

import json
import re
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from sampan.api.runtime.v1 import containers_pb2
from sampan.layout import Layout
from sampan.oci.chain import chain_ids
from sampan.oci.digest import Digest
from sampan_cli.app.app import app
from sampan_cli.app.session import Session
from tests.fakes.engine import MANIFEST, image
from tests.fakes.engine_layers import DIFF_IDS
from tests.unit.sampan_cli.conftest import Sampan


def test_ps_shows_running_containers_and_all_on_demand(sampan: Sampan) -> None:
    container = sampan.container("sleep", "1000 s", name="web")
    sampan.container("true", name="job")
    sampan.ok("start", "web")
    lines = sampan.ok("ps").splitlines()
    assert lines[0].split("   ")[0] == "CONTAINER ID"
    assert len(lines) == 2
    assert f"{container[:12]}             \"sleep '1000 s'\"" in lines[1]
    assert "Up Less than a second" in lines[1]
    assert sampan.ok("ps", "-aq").split() == [sampan.fake.runtime.containers.find("job").record.id[:12], container[:12]]
    assert sampan.ok("ps", "-a", "--format", "{{.Names}}:{{.State}}").split() == ["job:created", "web:running"]
    assert json.loads(sampan.ok("ps", "--format", "json"))["Names"] == "web"


def test_ps_passes_filters_and_limits_on(sampan: Sampan) -> None:
    sampan.ok("ps", "-n", "3", "-s", "--filter", "status=exited", "--filter", "status=dead", "-f", "label=a=b")
    request = sampan.fake.runtime.containers.listed[-1]
    assert (request.all, request.limit, request.size) == (True, 3, True)
    assert list(request.filters["status"].values) == ["exited", "dead"]
    assert list(request.filters["label"].values) == ["a=b"]


def test_ps_with_a_filter_that_there_is_not_names_it(sampan: Sampan) -> None:
    result = sampan("ps", "--filter", "colour=red")
    assert result.exit_code == 1
    assert result.stderr.startswith("sampan: invalid filter 'colour': known filters are id, name")


def test_several_are_all_tried_and_one_failure_is_the_exit_code(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    result = sampan("start", "nosuch", "web")
    assert result.exit_code == 1
    assert result.stdout == "web\n"
    assert result.stderr == "sampan: No such container: nosuch\n"
    assert sampan.ok("start", "web") == "web\n", "what runs already is started"


def test_life_of_a_container(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    for command in ("start", "pause", "unpause", "restart", "stop", "start", "kill"):
        assert sampan.ok(command, "web") == "web\n"
    assert sampan.ok("wait", "web") == "137\n"
    assert sampan.ok("rename", "web", "old") == ""
    assert sampan.ok("rm", "old") == "old\n"


def test_forced_removal_of_nothing_is_no_failure(sampan: Sampan) -> None:
    assert sampan("rm", "nosuch").exit_code == 1
    result = sampan("rm", "-f", "nosuch")
    assert result.exit_code == 0
    assert result.stderr == "sampan: No such container: nosuch\n"


def test_update_changes_what_was_named(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    bare = sampan("update", "web")
    assert (bare.exit_code, bare.stderr) == (1, "sampan: you must provide one or more flags when using this command\n")
    sampan.ok("update", "--memory", "64m", "--restart", "on-failure:2", "web")
    request = sampan.fake.runtime.containers.updated[-1]
    assert request.resources.memory_bytes == 64 << 20
    assert request.restart_policy.maximum_retries == 2


def test_inspect_prints_docker_names_and_takes_templates(sampan: Sampan) -> None:
    container = sampan.container("sleep", "9", name="web")
    (shaped,) = json.loads(sampan.ok("inspect", "web"))
    assert (shaped["Id"], shaped["Name"], shaped["Path"], shaped["Args"]) == (container, "/web", "sleep", ["9"])
    assert shaped["State"]["Status"] == "created"
    assert shaped["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    assert sampan.ok("inspect", "-f", "{{.State.Status}} {{len .Args}}", "web") == "created 1\n"
    assert sampan("inspect", "-f", "{{.Nosuch}}", "web").exit_code == 1


def test_inspect_finds_any_kind_and_says_what_it_did_not_find(sampan: Sampan) -> None:
    sampan.fake.images.add(image("busybox:latest"))
    sampan.ok("network", "create", "backend")
    sampan.ok("volume", "create", "data")
    result = sampan("inspect", "busybox", "backend", "data", "nosuch")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [each.get("RepoTags", each.get("Name")) for each in found] == [["busybox:latest"], "backend", "data"]
    assert result.stderr == "sampan: No such object: nosuch\n"
    assert sampan("inspect", "--type", "image", "data").stderr == "sampan: No such image: data:latest\n"


def test_images_has_one_line_per_name(sampan: Sampan) -> None:
    one = sampan.fake.images.add(image("debian:12"))
    one.repo_tags.append("localhost:5000/debian:12")
    sampan.fake.images.add(image("", created_s=1_600_000_000))
    rows = sampan.ok("images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}").splitlines()
    short = one.id.partition(":")[2][:12]
    assert rows[:2] == [f"debian 12 {short}", f"localhost:5000/debian 12 {short}"]
    assert rows[2].startswith("<none> <none> ")
    assert sampan.ok("images", "-q").split()[0] == short
    assert sampan.ok("images", "-q").split()[:2] == [short, short], "one line per name, as Docker has it"
    named = [line.split()[0] for line in sampan.ok("images", "*/debian").splitlines()[1:]]
    assert named == ["localhost:5000/debian"]
    assert sampan.ok("images", "localhost:5000/debian", "--format", "{{.Repository}}") == "localhost:5000/debian\n"
    assert sampan.ok("images", "--filter", "dangling=true", "--format", "{{.Repository}}") == "<none>\n"
    assert sampan.ok("images", "--filter", "reference=deb*", "--format", "{{.Repository}}") == "debian\n"
    assert sampan.ok("images", "--filter", "before=debian:12", "--format", "{{.Tag}}") == "<none>\n"


def test_images_leaves_out_nameless_steps_unless_it_has_filters_or_is_of_all(sampan: Sampan) -> None:
    step = sampan.fake.images.add(image("", created_s=1_600_000_000))
    made = sampan.fake.images.add(image("a:1"))
    made.parent = step.id
    shown = [
        sampan.ok("images", "-q", "--no-trunc", *flags).split()
        for flags in ((), ("--all",), ("--filter", "dangling=true"), ("a",))
    ]
    assert shown == [[made.id], [made.id, step.id], [step.id], [made.id]]


def test_history_gives_layers_to_the_steps_that_made_them(sampan: Sampan) -> None:
    sampan.fake.images.add(image("debian:12"))
    rows = sampan.ok("history", "--format", "{{.CreatedBy}}|{{.ID}}", "debian:12").splitlines()
    assert [row.partition("|")[0] for row in rows] == ["RUN something", "CMD sh", "ADD rootfs"]
    assert rows[1].endswith("<missing>")
    sizes = sampan.ok("history", "--format", "{{.Size}}", "debian:12").split()
    assert sizes == ["500B", "0B", "3kB"], "a step that changed no file has no layer"


def test_pull_ends_with_the_whole_name(sampan: Sampan) -> None:
    sampan.fake.images.remote["debian:latest"] = image("debian:latest")
    lines = sampan.ok("pull", "debian").splitlines()
    assert lines[0] == "Using default tag: latest"
    assert lines[-2:] == ["Status: Downloaded newer image for debian:latest", "docker.io/library/debian:latest"]
    assert sampan.ok("pull", "-q", "debian") == "docker.io/library/debian:latest\n"


def test_a_digest_is_neither_pushed_nor_all_of_a_repository(sampan: Sampan) -> None:
    name = f"debian@sha256:{'0' * 64}"
    for words in (("push", "-a", name), ("pull", "-a", name), ("push", "-a", "debian:12")):
        assert sampan(*words).stderr == "sampan: tag can't be used with --all-tags/-a\n"
    pushed = sampan("push", name)
    assert (pushed.stdout, pushed.stderr) == ("", "sampan: cannot push a digest reference\n")


def test_pull_sends_the_password_that_is_kept_for_the_registry(sampan: Sampan) -> None:
    sampan.fake.images.remote["localhost:5000/app:1"] = image("localhost:5000/app:1")
    sampan.ok("login", "-u", "alice", "--password-stdin", "localhost:5000", input="right\n")
    sampan.ok("pull", "localhost:5000/app:1")
    assert sampan.fake.images.credentials[-1].username == "alice"
    assert sampan.fake.images.credentials[-1].password == "right"
    assert sampan.ok("logout", "localhost:5000") == "Removing login credentials for localhost:5000\n"
    assert sampan.ok("logout", "localhost:5000") == "Removing login credentials for localhost:5000\n"
    assert sampan.ok("logout") == "Removing login credentials for https://index.docker.io/v1/\n"
    assert sampan("login", "-u", "alice", "-p", "wrong", "localhost:5000").exit_code == 1


@pytest.mark.parametrize("reference", ["UPPER", "a:b:c", "-x/y:", "a@sha256:1"])
def test_name_that_cannot_be_one_is_an_invalid_reference_format(sampan: Sampan, reference: str) -> None:
    result = sampan("pull", "--", reference)
    assert result.exit_code == 1
    assert "invalid reference format" in result.stderr


def test_tag_and_rmi_say_what_they_did(sampan: Sampan) -> None:
    one = sampan.fake.images.add(image("debian:12"))
    sampan.ok("tag", "debian:12", "mine:1")
    assert sampan.ok("rmi", "debian:12").splitlines() == ["Untagged: debian:12", f"Untagged: debian@{MANIFEST}"]
    lines = sampan.ok("rmi", "mine:1").splitlines()
    assert lines[0] == "Untagged: mine:1"
    base, top = chain_ids(DIFF_IDS)
    assert lines[-3:] == [f"Deleted: {one.id}", f"Deleted: {top}", f"Deleted: {base}"]
    assert sampan("rmi", "nosuch").exit_code == 1
    assert sampan("rmi", "-f", "nosuch").exit_code == 0


def test_rmi_of_an_image_that_a_container_uses_is_refused_in_dockers_words(sampan: Sampan) -> None:
    one = sampan.fake.images.add(image("debian:12"))
    container = sampan.ok("create", "debian:12").strip()
    refused = sampan("rmi", "debian:12")
    assert refused.exit_code == 1
    assert (
        'conflict: unable to remove repository reference "debian:12" (must force) - '
        f"container {container[:12]} is using its referenced image {one.id[7:19]}"
    ) in refused.stderr
    assert "must be forced" in sampan("rmi", one.id).stderr


def test_import_sends_the_file_and_prints_the_id(sampan: Sampan) -> None:
    file = Path(sampan.fake.layout.run_root) / "rootfs.tar"
    file.write_bytes(b"tar" * 1000)
    assert Digest.parse(sampan.ok("import", str(file), "mine:1").strip())
    assert sampan.fake.images.imported == b"tar" * 1000
    missing = sampan("import", "/nowhere.tar")
    assert missing.stderr == "sampan: open /nowhere.tar: no such file or directory\n"


def test_networks_are_made_listed_joined_and_removed(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    identity = sampan.ok("network", "create", "--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1", "back").strip()
    network = sampan.fake.runtime.networks.find("back")
    assert [(pool.subnet, pool.gateway) for pool in network.pools] == [("10.1.0.0/16", "10.1.0.1")]
    assert f"{identity[:12]}   back" in sampan.ok("network", "ls")
    sampan.ok("network", "connect", "--alias", "db", "back", "web")
    sampan.ok("network", "disconnect", "back", "web")
    assert sampan.ok("network", "rm", "back") == "back\n"


def test_network_is_of_one_machine(sampan: Sampan) -> None:
    assert sampan("network", "create", "--scope", "swarm", "back").stderr == (
        "sampan: Scope 'swarm' is of swarm networks, which this engine does not support: scope is 'local'\n"
    )
    assert sampan.ok("network", "ls", "--format", "{{.Name}}") == "bridge\n"
    sampan.ok("network", "create", "--scope", "local", "back")


def test_volumes_are_made_listed_and_removed(sampan: Sampan) -> None:
    assert sampan.ok("volume", "create", "--label", "a=b", "data") == "data\n"
    assert sampan.ok("volume", "ls").splitlines() == ["DRIVER    VOLUME NAME", "local     data"]
    assert sampan.ok("volume", "ls", "-q") == "data\n"
    assert sampan.ok("volume", "rm", "data") == "data\n"
    assert sampan("volume", "rm", "data").exit_code == 1


def test_prune_says_what_went(sampan: Sampan) -> None:
    container = sampan.container("true", name="job")
    assert sampan.ok("container", "prune", "-f") == (f"Deleted Containers:\n{container}\n\nTotal reclaimed space: 1B\n")
    sampan.ok("volume", "create", "data")
    assert "Deleted Volumes:\ndata\n" in sampan.ok("volume", "prune", "-fa")


def test_top_and_stats_are_tables(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    sampan.ok("start", "web")
    assert sampan.ok("top", "web", "-o", "pid,cmd").splitlines() == ["PID       CMD", "1         sh"]
    assert sampan.ok("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}") == "web 4KiB / 8KiB 1\n"


def test_ancestor_finds_containers_by_any_name_of_their_image(sampan: Sampan) -> None:
    made = sampan.fake.images.add(image("busybox:latest"))
    sampan.ok("ps", "--filter", "ancestor=busybox")
    asked = sampan.fake.runtime.containers.listed[-1]
    assert list(asked.filters["ancestor"].values) == ["busybox", made.id]
    assert sampan("ps", "--filter", "ancestor=nosuch").exit_code == 0


def test_a_state_is_looked_for_among_all_containers(sampan: Sampan) -> None:
    sampan.ok("ps", "--filter", "status=exited")
    assert sampan.fake.runtime.containers.listed[-1].all
    sampan.ok("ps")
    assert not sampan.fake.runtime.containers.listed[-1].all


def test_a_link_is_removed_and_not_its_container(sampan: Sampan) -> None:
    sampan.container("true", name="web")
    assert sampan.ok("rm", "--link", "web/db", "/web/cache") == "web/db\n/web/cache\n"
    assert sorted(sampan.fake.runtime.containers.unlinked) == [("web", "cache"), ("web", "db")]
    assert "cannot remove the default link name" in sampan("rm", "--link", "web").stderr
    assert sampan.ok("ps", "-aq").strip()


def test_port_lists_all_or_finds_one(sampan: Sampan) -> None:
    record = sampan.fake.runtime.containers.held[sampan.container("sleep", name="web")].record
    record.network.ports.add(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=8080)
    record.network.ports.add(container_port=443, protocol="tcp")
    assert sampan.ok("port", "web") == "", "it does not run"
    record.state.status = containers_pb2.ContainerState.RUNNING
    assert sampan.ok("port", "web") == "80/tcp -> 127.0.0.1:8080\n"
    assert sampan.ok("port", "web", "80") == "127.0.0.1:8080\n"
    assert sampan("port", "web", "81").stderr == "sampan: no public port '81/tcp' published for web\n"


def test_info_version_and_df_know_the_engine(sampan: Sampan) -> None:
    assert "Default Runtime: runc" in sampan.ok("info").splitlines()
    assert sampan.ok("info", "-f", "{{.Containers}} {{.CgroupVersion}} {{.OSType}}") == "3 2 linux\n"
    assert sampan.ok("version", "-f", "{{.Server.runc}}") == "1.1\n"
    assert sampan.ok("version", "-f", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}}") == "1.52 1.24\n"
    assert "  API version:      1.52 (minimum version 1.24)" in sampan.ok("version").splitlines()
    sampan.fake.images.add(image("debian:12"))
    assert sampan.ok("system", "df", "--format", "{{.Type}} {{.TotalCount}}").splitlines() == [
        "Images 1",
        "Containers 0",
        "Local Volumes 0",
        "Build Cache 0",
        "Image Content 0",
    ]


def test_bug_in_the_engine_points_to_its_logs(sampan: Sampan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sampan.fake.runtime.containers, "find", broken)
    result = sampan("inspect", "--type", "container", "web")
    assert result.exit_code == 1
    assert f"the engine failed, its logs in {sampan.fake.layout.run_root}/logs say why" in result.stderr


def test_tab_completes_names_of_what_is_there(sampan: Sampan) -> None:
    sampan.container("sleep", name="web")
    sampan.container("sleep", name="db")
    sampan.fake.images.add(image("debian:12"))
    session = Session(sampan.fake.layout)
    for words, names in ((["stop"], ["web", "db"]), (["rmi"], ["debian:12"]), (["run"], ["debian:12"])):
        completion = ShellComplete(app, {"obj": session}, "sampan", "_SAMPAN_COMPLETE")
        items = completion.get_completions(words, "")
        assert sorted(item.value for item in items) == sorted(names)


def test_tab_without_an_engine_completes_nothing_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(Layout(Path("/nowhere/data"), Path("/nowhere/run")))
    completion = ShellComplete(app, {"obj": session}, "sampan", "_SAMPAN_COMPLETE")
    assert completion.get_completions(["stop"], "") == []
    assert capsys.readouterr() == ("", "")


def test_ps_shows_pods_where_that_is_asked_for(sampan: Sampan) -> None:
    theirs = sampan.fake.runtime.create("sleep", name="pod", owner="cri")
    assert theirs[:12] not in sampan.ok("ps", "-aq").split()
    assert theirs[:12] in sampan.ok("ps", "-aq", "--pods").split()


def test_a_tree_of_images_goes_with_no_flag_that_says_how_lines_look(sampan: Sampan) -> None:
    sampan.fake.images.add(image("busybox:latest"))
    assert "busybox:latest" in sampan.ok("images", "--tree")
    for flags, name in ((["-q"], "quiet"), (["--no-trunc"], "no-trunc"), (["--format", "json"], "format")):
        said = sampan("images", "--tree", *flags)
        assert said.exit_code == 1
        assert f"--{name} is not yet supported with --tree" in said.output


def test_debug_tells_every_call_and_how_long_it_took(sampan: Sampan) -> None:
    for flags in (["-D"], ["--log-level", "debug"]):
        said = sampan(*flags, "ps")
        assert re.search(r"^debug: sampan\.runtime\.v1\.Containers/List: \d+\.\d ms$", said.output, re.MULTILINE)
    assert "debug:" not in sampan("-l", "info", "ps").output
