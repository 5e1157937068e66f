"""The configuration's directory, followed."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crid.cni.model import Network, Unusable
from crid.cni.watch import Configuration
from tests.unit.crid.cni.parts import until

TEXT = json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]})


@contextmanager
def told(configuration: Configuration) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    configuration.on_change(event.set)
    yield event


def name(configuration: Configuration) -> str:
    network = configuration.network
    return network.name if isinstance(network, Network) else ""


async def test_a_file_that_comes_changes_and_goes_is_followed(tmp_path: Path) -> None:
    async with Configuration(tmp_path) as configuration:
        with told(configuration) as event:
            assert isinstance(configuration.network, Unusable)
            (tmp_path / "10.conflist").write_text(TEXT)
            await until(lambda: name(configuration) == "pods")
            assert event.is_set()
            (tmp_path / "10.conflist").write_text(TEXT.replace("pods", "others"))
            await until(lambda: name(configuration) == "others")
            (tmp_path / "10.conflist").unlink()
            await until(lambda: isinstance(configuration.network, Unusable))


async def test_a_file_that_is_renamed_into_place_or_linked_counts(tmp_path: Path) -> None:
    net_d = tmp_path / "net.d"
    net_d.mkdir()
    (tmp_path / "text").write_text(TEXT)
    async with Configuration(net_d) as configuration:
        (net_d / ".new").write_text(TEXT.replace("pods", "renamed"))
        (net_d / ".new").rename(net_d / "20.conflist")
        await until(lambda: name(configuration) == "renamed")
        (net_d / "10.conflist").symlink_to(tmp_path / "text")
        await until(lambda: name(configuration) == "pods")


async def test_a_directory_that_is_made_later_is_found_and_made_again_as_well(tmp_path: Path) -> None:
    net_d = tmp_path / "etc" / "cni" / "net.d"
    async with Configuration(net_d) as configuration:
        for _ in range(2):
            net_d.mkdir(parents=True)
            (net_d / "10.conflist").write_text(TEXT)
            await until(lambda: name(configuration) == "pods")
            (net_d / "10.conflist").unlink()
            net_d.rmdir()
            net_d.parent.rmdir()
            await until(lambda: isinstance(configuration.network, Unusable))


async def test_plugins_beside_a_list_are_followed_too(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text(TEXT)
    async with Configuration(tmp_path) as configuration:
        (tmp_path / "pods").mkdir()
        (tmp_path / "pods" / "10.conf").write_text('{"type": "tuning"}')

        def types() -> list[str]:
            network = configuration.network
            return [plugin.type for plugin in network.plugins] if isinstance(network, Network) else []

        await until(lambda: types() == ["bridge", "tuning"])
        (tmp_path / "pods" / "10.conf").write_text('{"type": "sbr"}')
        await until(lambda: types() == ["bridge", "sbr"])


async def test_what_is_written_again_and_is_the_same_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "10.conflist").write_text(TEXT)
    async with Configuration(tmp_path) as configuration:
        with told(configuration) as event:
            (tmp_path / "10.conflist").write_text(TEXT)
            (tmp_path / "20.conflist").write_text(TEXT.replace("pods", "second"))
            (tmp_path / "05.conflist").write_text(TEXT.replace("pods", "first"))
            await until(lambda: name(configuration) == "first")
            event.clear()
            (tmp_path / "20.conflist").unlink()
            await asyncio.sleep(0.2)
            assert not event.is_set()
