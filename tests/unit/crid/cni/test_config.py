"""Network configurations: which file counts, and what is wrong with one."""

import json
from pathlib import Path

import pytest

from crid.cni.config import best_version, load
from crid.cni.model import Network, Unusable
from sampan.json_types import JsonObject

BRIDGE: JsonObject = {"type": "bridge", "bridge": "cni0", "capabilities": {"ips": True, "mac": False}}
LIST: JsonObject = {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, {"type": "portmap"}]}


def write(directory: Path, name: str, document: object) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def loaded(directory: Path) -> Network:
    network = load(directory)
    assert isinstance(network, Network), network
    return network


def reason(directory: Path) -> str:
    network = load(directory)
    assert isinstance(network, Unusable), network
    return network.reason


def test_a_list_of_plugins_keeps_their_order_and_what_they_ask_for(tmp_path: Path) -> None:
    write(tmp_path, "10-pods.conflist", LIST)
    network = loaded(tmp_path)
    assert (network.name, network.versions) == ("pods", ("1.0.0",))
    assert [plugin.type for plugin in network.plugins] == ["bridge", "portmap"]
    assert network.plugins[0].capabilities == {"ips"}
    assert network.plugins[0].document["bridge"] == "cni0"


def test_the_lexically_first_file_counts_whatever_its_suffix(tmp_path: Path) -> None:
    write(tmp_path, "20-b.conflist", {**LIST, "name": "second"})
    write(tmp_path, "10-a.conf", {"cniVersion": "0.3.1", "name": "first", "type": "ptp"})
    write(tmp_path, "00-notes.txt", "not a configuration")
    write(tmp_path, ".05-half-written.conflist", "{")
    (tmp_path / "01-directory.conf").mkdir()
    network = loaded(tmp_path)
    assert (network.name, network.plugins[0].type) == ("first", "ptp")


def test_a_first_file_that_is_damaged_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "10-a.conflist", '{"name": "pods"')
    write(tmp_path, "20-b.conflist", LIST)
    assert "10-a.conflist" in reason(tmp_path)
    assert "no JSON" in reason(tmp_path)


def test_no_directory_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    assert "no directory" in reason(tmp_path / "net.d")
    assert "no network configuration in" in reason(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name is null"),
        ({"name": "../pods"}, "name is"),
        ({"plugins": []}, "no plugins"),
        ({"plugins": {}}, "not a list"),
        ({"plugins": ["bridge"]}, "plugin 1 is not an object"),
        ({"plugins": [{}]}, "type null"),
        ({"plugins": [{"type": "../../bin/sh"}]}, "without its directory"),
        ({"plugins": [{"type": "a", "capabilities": {"ips": "yes"}}]}, "capabilities of plugin 1"),
        ({"cniVersion": "2.0.0"}, "0.3.0 to 1.1.0"),
        ({"cniVersion": "0.2.0"}, "0.3.0 to 1.1.0"),
        ({"cniVersion": "new"}, "no version"),
        ({"cniVersions": "1.0.0"}, "cniVersions is not a list"),
        ({"disableCheck": 1}, "disableCheck is 1"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: JsonObject, words: str) -> None:
    write(tmp_path, "10-pods.conflist", {**LIST, **change})
    assert words in reason(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "\xff\xfe", "[" * 100_000])
def test_what_is_no_object_is_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "10-pods.conflist").write_bytes(text.encode("latin-1"))
    assert "10-pods.conflist" in reason(tmp_path)


def test_a_file_without_a_version_means_one_that_is_not_spoken(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", {key: value for key, value in LIST.items() if key != "cniVersion"})
    assert "which means 0.1.0" in reason(tmp_path)


def test_a_file_that_never_ends_is_not_read_whole(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", " " * (2 << 20))
    assert "larger than 1 MiB" in reason(tmp_path)


def test_plugins_beside_a_list_follow_its_own_unless_it_wants_none(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", LIST)
    write(tmp_path, "pods/20-second.conf", {"type": "tuning"})
    write(tmp_path, "pods/10-first.conf", {"type": "bandwidth"})
    assert [plugin.type for plugin in loaded(tmp_path).plugins] == ["bridge", "portmap", "bandwidth", "tuning"]
    write(tmp_path, "10.conflist", {**LIST, "loadOnlyInlinedPlugins": True})
    assert [plugin.type for plugin in loaded(tmp_path).plugins] == ["bridge", "portmap"]


def test_flags_may_be_words(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", {**LIST, "disableCheck": "True", "disableGC": "false"})
    network = loaded(tmp_path)
    assert (network.disable_check, network.disable_gc) == (True, False)


def test_the_latest_version_that_all_plugins_speak_is_spoken(tmp_path: Path) -> None:
    write(tmp_path, "10.conflist", {**LIST, "cniVersions": ["0.4.0", "1.1.0", "9.0.0"]})
    network = loaded(tmp_path)
    assert network.versions == ("0.4.0", "1.0.0", "1.1.0")
    newest, older = frozenset(("0.4.0", "1.0.0", "1.1.0")), frozenset(("0.4.0", "1.0.0"))
    assert best_version(network, {"bridge": newest, "portmap": newest}) == "1.1.0"
    assert best_version(network, {"bridge": newest, "portmap": older}) == "1.0.0"
    none = best_version(network, {"bridge": newest, "portmap": frozenset({"0.2.0", "0.1.0"})})
    assert isinstance(none, Unusable)
    assert "portmap speaks 0.1.0, 0.2.0" in none.reason


def test_example_for_a_node_is_a_configuration() -> None:
    network = loaded(Path(__file__).parents[4] / "deploy/kubernetes")
    assert (network.name, [plugin.type for plugin in network.plugins]) == ("pods", ["bridge", "portmap"])
