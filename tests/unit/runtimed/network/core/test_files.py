from collections.abc import Iterable
from pathlib import Path

from runtimed.network.core.container_files import HostFiles, compose
from runtimed.network.core.files import Resolv, hosts, parse_resolv, resolv_conf
from runtimed.network.core.model import Sandbox
from sampan.resource.container_spec import ContainerSpec, Dns, Endpoint, Namespaces
from tests.unit.runtimed.network_values import attached, container, sandbox

UPSTREAM = Resolv(("192.0.2.53",), ("example.org",), ("timeout:1",))


def test_comments_and_unknown_lines_of_a_resolv_conf_are_skipped() -> None:
    text = "# top\nnameserver 1.1.1.1 ; first\ndomain old.example\nsearch a.example b.example\nsortlist x\n"
    text += "options rotate\n"
    assert parse_resolv(text) == Resolv(("1.1.1.1",), ("a.example", "b.example"), ("rotate",))


def test_hosts_resolver_is_copied_without_what_only_the_host_can_reach() -> None:
    host = Resolv(("127.0.0.53", "::1", "192.0.2.53", "fe80::1%eth0"), ("example.org",))
    assert resolv_conf(host, Dns(), embedded=False) == b"nameserver 192.0.2.53\nsearch example.org\n"


def test_public_servers_are_the_last_resort() -> None:
    assert resolv_conf(Resolv(("127.0.0.1",)), Dns(), embedded=False) == b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_users_choice_replaces_the_hosts_part_by_part() -> None:
    text = resolv_conf(UPSTREAM, Dns(servers=("9.9.9.9",), options=("use-vc",)), embedded=False)
    assert text == b"nameserver 9.9.9.9\nsearch example.org\noptions use-vc\n"


def test_search_list_of_a_dot_is_an_empty_one() -> None:
    assert b"search" not in resolv_conf(UPSTREAM, Dns(search=(".",)), embedded=False)


def test_embedded_resolver_stands_before_all_others() -> None:
    text = resolv_conf(UPSTREAM, Dns(servers=("9.9.9.9",)), embedded=True)
    assert text == b"nameserver 127.0.0.11\nsearch example.org\noptions timeout:1 ndots:0\n"


def test_own_line_ends_the_hosts_file() -> None:
    lines = hosts([("10.0.0.9", "db")], ["172.17.0.2"], "web", "example.org").decode().splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["10.0.0.9\tdb", "172.17.0.2\tweb.example.org web"]


def test_first_part_of_a_complete_name_is_a_name_too() -> None:
    assert hosts([], ["172.17.0.2"], "web.example.org", "").decode().endswith("172.17.0.2\tweb.example.org web\n")


def files(spec: ContainerSpec, own: Sandbox, root: Path, others: Iterable[Sandbox] = ()) -> dict[str, str]:
    made = compose(container(spec), own, HostFiles(root), host_gateways="172.17.0.1", others=others)
    return {name: content.decode() for name, content in made.items()}


def test_hosts_network_shows_the_hosts_own_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("127.0.0.1 here\n")
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    spec = ContainerSpec(namespaces=Namespaces(network="host"), extra_hosts=("db:10.0.0.9",))
    made = files(spec, sandbox(hostname="machine", owns_namespace=False), tmp_path)
    assert made == {
        "hosts": "127.0.0.1 here\n10.0.0.9\tdb\n",
        "hostname": "machine\n",
        "resolv.conf": "nameserver 127.0.0.53\n",
    }


def test_servers_behind_a_local_stub_are_found(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "run/systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.1\n")
    assert files(ContainerSpec(), sandbox(attached()), tmp_path)["resolv.conf"] == "nameserver 192.0.2.1\n"


def test_link_on_the_default_network_is_a_line_in_hosts(tmp_path: Path) -> None:
    database = sandbox(attached(address="172.17.0.7"), name="db", hostname="dbhost")
    own = sandbox(attached(requested=Endpoint("bridge", links=("db:store",))))
    assert "172.17.0.7\tstore dbhost db\n" in files(ContainerSpec(), own, tmp_path, [database])["hosts"]


def test_link_to_a_container_that_does_not_run_any_more_leads_nowhere(tmp_path: Path) -> None:
    own = sandbox(attached(requested=Endpoint("bridge", links=("db:store",))))
    assert "store" not in files(ContainerSpec(name="web"), own, tmp_path)["hosts"]
