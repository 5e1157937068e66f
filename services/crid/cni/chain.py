"""What is asked of a network's plugins, one after the other: the part that libcni has in other runtimes.

Nothing is kept here. ADD and CHECK go through the chain in its order, DEL against it; each plugin is given the result
of the one before, and after ADD all of them the last one's.

Reference: CNI specification 1.1, section 3.
"""

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from crid.cni.config import best_version
from crid.cni.model import INTERFACE, Attachment, Command, Network, Plugin, PluginError, Result, Unusable, has
from crid.cni.process import Call, Programs, run_plugin
from crid.cni.results import parse
from sampan.errors import SampanError, UnavailableError
from sampan.json_types import JsonObject

# Codes of the specification's STATUS.
_CANNOT_ADD: Final = 50
_LIMITED: Final = 51

# Plugins of one kind that may run at a time. One waits for the network more often than for a processor, and what is
# taken back does not wait for what is made.
_MOST_AT_ONCE: Final = 64

# How long a plugin has to say what versions it speaks.
_VERSION_S: Final = 10.0

# Before version 1.3 of the plugins, this one's CHECK looks for a pod's rules of IPv4 with the program for IPv6 as well,
# and the other way round: they are not there, and it says so of every pod with a host port, if both programs work.
_PORTMAP: Final = "portmap"
_TABLES: Final = ("iptables", "ip6tables")
_FAILS: Final = "/bin/false"


class Meter(Protocol):
    """Counts what plugins do."""

    def ran(self, plugin: str, command: Command, seconds: float, outcome: str) -> None:
        """A plugin has ended; ``outcome`` is ``ok``, ``refused``, ``unavailable`` or ``cancelled``."""


class Chain:
    """Asks plugins. For one event loop."""

    def __init__(self, programs: Programs, meter: Meter, timeout_s: float, scratch: Path) -> None:
        """``timeout_s`` is how long one plugin may take; ``scratch`` is a directory for what they are to find."""
        self._programs = programs
        self._meter = meter
        self._timeout_s = timeout_s
        self._scratch = scratch
        self._adding = asyncio.Semaphore(_MOST_AT_ONCE)
        self._other = asyncio.Semaphore(_MOST_AT_ONCE)
        self._spoken: dict[tuple[str, int, int, int], frozenset[str]] = {}  # by file, as stat(2) knows it

    async def version(self, network: Network) -> str | Unusable:
        """Return the version of CNI to speak with a network's plugins, or why there is none."""
        supported: dict[str, frozenset[str]] = {}
        for plugin in network.plugins:
            try:
                supported[plugin.type] = await self._versions(plugin.type, network.versions[-1])
            except SampanError as error:
                return Unusable(str(error))
        return best_version(network, supported)

    async def add(self, attachment: Attachment) -> Result:
        """Bring a pod into its network.

        Raises:
            UnavailableError: a plugin takes too long, is missing, or cannot do it at present.
            PluginError: a plugin refuses, or its result is none.
        """
        result: Result | None = None
        for plugin in attachment.network.plugins:
            document = self._document(attachment, plugin, result.document if result else None)
            answer = await self._ask(plugin.type, Command.ADD, document, _variables(attachment))
            try:
                result = parse(answer, attachment.version)
            except ValueError as error:
                raise PluginError(plugin.type, Command.ADD, str(error)) from None
        assert result is not None  # a network has plugins
        return result

    async def delete(self, attachment: Attachment) -> None:
        """Take a pod out of its network; safe to repeat, and if ADD came half way. Raises as ``add``.

        A plugin that fails is no reason not to ask the others; the first error is raised.
        """
        knows_result = has(attachment.version, Command.CHECK)  # DEL is told it by the same version that brought CHECK
        failed: SampanError | None = None
        for plugin in reversed(attachment.network.plugins):
            document = self._document(attachment, plugin, attachment.result if knows_result else None)
            try:
                await self._ask(plugin.type, Command.DEL, document, _variables(attachment))
            except SampanError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def check(self, attachment: Attachment) -> None:
        """Have plugins look whether a pod's network is as they made it. Raises as ``add``: it is not."""
        if attachment.network.disable_check or not has(attachment.version, Command.CHECK):
            return
        for plugin in attachment.network.plugins:
            document, variables = self._document(attachment, plugin, attachment.result), _variables(attachment)
            try:
                await self._ask(plugin.type, Command.CHECK, document, variables)
            except PluginError:
                if plugin.type != _PORTMAP or not (alone := _by_family(document, self._scratch)):
                    raise
                for question, further in alone:
                    await self._ask(plugin.type, Command.CHECK, question, {**variables, **further})

    async def status(self, network: Network, version: str, timeout_s: float) -> str:
        """Return why plugins could not take a pod, or nothing."""
        if not has(version, Command.STATUS):
            return ""
        try:
            async with asyncio.timeout(timeout_s):
                for plugin in network.plugins:
                    await self._ask(plugin.type, Command.STATUS, _plain(network, plugin, version), {})
        except PluginError as error:
            if error.code == _LIMITED:
                return f"{error}: containers that run have limited connectivity"
            return str(error) if error.code != _CANNOT_ADD else f"{error}: it cannot take a pod"
        except UnavailableError as error:
            return str(error)
        except TimeoutError:
            return f"CNI plugins of {network.name} did not tell their status within {timeout_s:g} seconds"
        return ""

    async def collect(
        self, network: Network, version: str, valid: Collection[tuple[str, str]], timeout_s: float
    ) -> list[SampanError]:
        """Have plugins drop what belongs to nobody: ``valid`` are containers and their interfaces. Return failures."""
        if network.disable_gc or not has(version, Command.GC):
            return []
        attachments = [{"containerID": container, "ifname": interface} for container, interface in valid]
        failed: list[SampanError] = []
        try:
            async with asyncio.timeout(timeout_s):
                for plugin in network.plugins:
                    # The specification's first edition had the second name, which plugins were written for.
                    document = _plain(network, plugin, version) | {
                        "cni.dev/valid-attachments": attachments,
                        "cni.dev/attachments": attachments,
                    }
                    try:
                        await self._ask(plugin.type, Command.GC, document, {})
                    except SampanError as error:
                        failed.append(error)
        except TimeoutError:
            failed.append(UnavailableError(f"CNI plugins of {network.name} GC: not done within {timeout_s:g} seconds"))
        return failed

    def _document(self, attachment: Attachment, plugin: Plugin, previous: JsonObject | None) -> JsonObject:
        document = _plain(attachment.network, plugin, attachment.version)
        if previous is not None:
            document["prevResult"] = previous
        wanted = {name: value for name, value in attachment.capabilities.items() if name in plugin.capabilities}
        if wanted:
            document["runtimeConfig"] = wanted
        return document

    async def _versions(self, plugin: str, version: str) -> frozenset[str]:
        """Return the versions that a plugin speaks; asked once for as long as its program is the same file."""
        path = self._programs.find(plugin)
        found = path.stat()
        key = (str(path), found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._spoken:
            answer = await self._ask(plugin, Command.VERSION, {"cniVersion": version}, {}, _VERSION_S)
            spoken = answer.get("supportedVersions") if isinstance(answer, dict) else None
            if not isinstance(spoken, list) or not all(isinstance(each, str) for each in spoken):
                raise PluginError(plugin, Command.VERSION, "it does not say what versions it speaks")
            self._spoken = {each: value for each, value in self._spoken.items() if each[0] != key[0]}
            self._spoken[key] = frozenset(spoken)
        return self._spoken[key]

    async def _ask(
        self,
        plugin: str,
        command: Command,
        document: JsonObject,
        variables: Mapping[str, str],
        timeout_s: float | None = None,
    ) -> object:
        async with self._adding if command is Command.ADD else self._other:
            begin, outcome = time.monotonic(), "cancelled"
            try:
                call = Call(plugin, command, document, variables)
                answer = await run_plugin(self._programs, call, timeout_s or self._timeout_s)
                outcome = "ok"
            except PluginError:
                outcome = "refused"
                raise
            except UnavailableError:
                outcome = "unavailable"
                raise
            finally:
                self._meter.ran(plugin, command, time.monotonic() - begin, outcome)
        return answer


def _plain(network: Network, plugin: Plugin, version: str) -> JsonObject:
    """Return what a plugin is told of its network, whatever it is asked."""
    kept = {key: value for key, value in plugin.document.items() if key != "capabilities"}
    return {**kept, "name": network.name, "cniVersion": version}


def _variables(attachment: Attachment) -> dict[str, str]:
    variables = {
        "CNI_CONTAINERID": attachment.sandbox,
        "CNI_IFNAME": INTERFACE,
        "CNI_ARGS": attachment.arguments,
    }
    if attachment.netns is not None:
        variables["CNI_NETNS"] = str(attachment.netns)
    return variables


def _by_family(document: JsonObject, scratch: Path) -> list[tuple[JsonObject, Mapping[str, str]]]:
    """Return what to ask ``portmap``, and with which variables, for each family that the pod has addresses of.

    It finds the other family's program to be one that fails, as where it does not work; those programs are links in
    ``scratch``.

    Raises:
        UnavailableError: those links cannot be made.
    """
    previous = document.get("prevResult")
    if not isinstance(previous, dict) or not isinstance(addresses := previous.get("ips"), list):
        return []
    questions: list[tuple[JsonObject, Mapping[str, str]]] = []
    for is_ipv6, other in enumerate(reversed(_TABLES)):
        if own := [each for each in addresses if (":" in str(each["address"])) == is_ipv6]:
            path = os.pathsep.join((str(_failing(other, scratch)), os.environ.get("PATH", os.defpath)))
            questions.append(({**document, "prevResult": {**previous, "ips": own}}, {"PATH": path}))
    return questions


def _failing(program: str, scratch: Path) -> Path:
    """Return a directory in which a program of this name fails."""
    directory = scratch / f"without-{program}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # of an earlier question
            (directory / program).symlink_to(_FAILS)
    except OSError as error:
        raise UnavailableError(f"CNI plugin {_PORTMAP} CHECK: {error.filename}: {error.strerror}") from error
    return directory
