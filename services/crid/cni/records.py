"""Attachments as rows: a pod's place in a network outlives crid, and the machine's power.

It is recorded before the first plugin runs, since whatever that has made can be taken back with it alone.
"""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from crid.cni.config import network_of
from crid.cni.model import Attachment, Network, Plugin, State
from sampan.json_types import JsonObject
from sampan.store.database import Store


class AttachmentRecords(Protocol):
    """What is known of pods' networks, kept."""

    async def attachments(self) -> tuple[list[Attachment], dict[str, str]]:
        """Return all attachments, and of those that cannot be read the sandbox and the reason."""

    async def put(self, attachment: Attachment) -> None:
        """Record an attachment, in the place of what was recorded for its sandbox."""

    async def drop(self, sandbox: str) -> None:
        """Forget an attachment; safe to repeat."""

    async def ranges(self) -> tuple[str, ...]:
        """Return the ranges of addresses that this node's pods have."""

    async def set_ranges(self, ranges: tuple[str, ...]) -> None:
        """Record the ranges."""


class StoredAttachmentRecords:
    """``AttachmentRecords`` in crid's database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def attachments(self) -> tuple[list[Attachment], dict[str, str]]:
        """Return all attachments, and of those that cannot be read the sandbox and the reason."""
        found: list[Attachment] = []
        unreadable: dict[str, str] = {}
        for sandbox, document in await self._store.read(_rows):
            try:
                found.append(decode(sandbox, document))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unreadable[sandbox] = f"its network's record cannot be read: {error!r}"
        return found, unreadable

    async def put(self, attachment: Attachment) -> None:
        """Record an attachment, in the place of what was recorded for its sandbox."""
        row = (attachment.sandbox, encode(attachment))
        # After a power cut it is enough to know that there may be something: a DEL works without the result, and twice.
        durable = attachment.state is State.ADDING
        await self._store.write(lambda db: _put(db, row), durable=durable)

    async def drop(self, sandbox: str) -> None:
        """Forget an attachment; safe to repeat."""
        await self._store.write(
            lambda db: db.execute("DELETE FROM cni_attachments WHERE sandbox = ?", (sandbox,)), durable=False
        )

    async def ranges(self) -> tuple[str, ...]:
        """Return the ranges of addresses that this node's pods have."""
        return await self._store.read(
            lambda db: tuple(cidr for (cidr,) in db.execute("SELECT cidr FROM cni_ranges ORDER BY position"))
        )

    async def set_ranges(self, ranges: tuple[str, ...]) -> None:
        """Record the ranges."""

        def replace_all(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM cni_ranges")
            db.executemany("INSERT INTO cni_ranges (position, cidr) VALUES (?, ?)", enumerate(ranges))

        await self._store.write(replace_all)


def _rows(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in db.execute("SELECT sandbox, document FROM cni_attachments ORDER BY sandbox")]


def _put(db: sqlite3.Connection, row: tuple[str, str]) -> None:
    query = "INSERT INTO cni_attachments VALUES (?, ?) ON CONFLICT (sandbox) DO UPDATE SET document = excluded.document"
    db.execute(query, row)


def encode(attachment: Attachment) -> str:
    """Return an attachment as JSON."""
    network = attachment.network
    document: JsonObject = {
        "netns": str(attachment.netns),
        "network": {
            "name": network.name,
            "cniVersions": list(network.versions),
            "plugins": [_with_capabilities(plugin) for plugin in network.plugins],
            "disableCheck": network.disable_check,
            "disableGC": network.disable_gc,
            "loadOnlyInlinedPlugins": True,
        },
        "source": str(network.source),
        "version": attachment.version,
        "state": attachment.state.value,
        "arguments": attachment.arguments,
        "capabilities": attachment.capabilities,
        "result": attachment.result,
    }
    return json.dumps(document)


def _with_capabilities(plugin: Plugin) -> JsonObject:
    return {**plugin.document, "capabilities": dict.fromkeys(sorted(plugin.capabilities), True)}


def decode(sandbox: str, text: str) -> Attachment:
    """Return what ``encode`` was given. Raises ValueError, KeyError, TypeError, AttributeError."""
    document = json.loads(text)
    network: Network = network_of(document["network"], Path(document["source"]), listed=True)
    plugins = tuple(
        replace(plugin, document={key: value for key, value in plugin.document.items() if key != "capabilities"})
        for plugin in network.plugins
    )
    return Attachment(
        sandbox,
        Path(document["netns"]),
        replace(network, plugins=plugins),
        document["version"],
        State(document["state"]),
        document["arguments"],
        document["capabilities"],
        document["result"],
    )
