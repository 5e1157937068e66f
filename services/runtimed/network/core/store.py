"""Networks on disk: their rows in runtimed's database, and those that every engine begins with."""

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from runtimed.network.core.model import (
    BRIDGE,
    HOST,
    NONE,
    NULL_DRIVER,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_MTU,
    Network,
    Pool,
)
from runtimed.network.core.names import new_id
from sampan.errors import AlreadyExistsError
from sampan.service.set_aside import why
from sampan.store.database import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATER = ("enable_ipv4", "enable_ipv6", "config_only", "config_from")  # rows of earlier versions have none of them
_MICROSECOND = timedelta(microseconds=1)


class NetworkStore:
    """Reads and writes network rows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> tuple[Network, ...]:
        """Return every network, oldest first."""
        rows = await self._store.read(
            lambda db: db.execute("SELECT * FROM networks ORDER BY created_us, rowid").fetchall()
        )
        return tuple(_network(row) for row in rows)

    async def redefine(self, network: Network) -> None:
        """Put another definition in the place of the one that is there."""
        text = _definition(network)
        await self._store.write(
            lambda db: db.execute("UPDATE networks SET definition = ? WHERE id = ?", (text, network.id)) and None
        )

    async def add(self, *networks: Network) -> None:
        """Record new networks; all or none.

        Raises:
            AlreadyExistsError: a name is taken.
        """

        def insert(db: sqlite3.Connection) -> None:
            for network in networks:
                values = (
                    network.id,
                    network.name,
                    network.driver,
                    (network.created - _EPOCH) // _MICROSECOND,
                    network.bridge or None,
                    _definition(network),
                )
                db.execute("INSERT INTO networks VALUES (?, ?, ?, ?, ?, ?)", values)

        try:
            await self._store.write(insert)
        except sqlite3.IntegrityError as error:
            names = ", ".join(network.name for network in networks)
            raise AlreadyExistsError(f"network with name {names} already exists") from error

    async def remove(self, *network_ids: str) -> None:
        """Forget networks; no error if one is not known."""
        rows = [(network_id,) for network_id in network_ids]
        await self._store.write(lambda db: db.executemany("DELETE FROM networks WHERE id = ?", rows) and None)


def _definition(network: Network) -> str:
    facts = {
        "internal": network.internal,
        "attachable": network.attachable,
        "pools": [_pool_facts(pool) for pool in network.pools],
        "options": dict(network.options),
        "labels": dict(network.labels),
        "ipam_driver": network.ipam_driver,
        "ipam_options": dict(network.ipam_options),
        "enable_ipv4": network.enable_ipv4,
        "enable_ipv6": network.enable_ipv6,
        "config_only": network.config_only,
        "config_from": network.config_from,
    }
    return json.dumps(facts)


def _pool_facts(pool: Pool) -> dict[str, Any]:
    return {
        "subnet": str(pool.subnet),
        "gateway": str(pool.gateway) if pool.gateway else None,
        "ip_range": str(pool.ip_range) if pool.ip_range else None,
        "auxiliary": {name: str(address) for name, address in pool.auxiliary.items()},
        "asked_for": pool.asked_for,
    }


def _network(row: sqlite3.Row) -> Network:
    try:
        return _read(row)
    except Exception as error:  # noqa: BLE001 - a record is data, and any of its values may be wrong in any way
        fault = f"its record cannot be read: {why(error)}"
        return Network(row["id"], row["name"], row["driver"], _EPOCH, row["bridge"] or "", fault=fault)


def _read(row: sqlite3.Row) -> Network:
    facts = json.loads(row["definition"])
    return Network(
        id=row["id"],
        name=row["name"],
        driver=row["driver"],
        created=_EPOCH + row["created_us"] * _MICROSECOND,
        bridge=row["bridge"] or "",
        internal=facts["internal"],
        attachable=facts["attachable"],
        pools=tuple(_pool(pool) for pool in facts["pools"]),
        options=facts["options"],
        labels=facts["labels"],
        ipam_driver=facts["ipam_driver"],
        ipam_options=facts["ipam_options"],
        **{name: facts[name] for name in _LATER if name in facts},
    )


def _pool(facts: dict[str, Any]) -> Pool:
    return Pool(
        subnet=ip_network(facts["subnet"]),
        gateway=ip_address(facts["gateway"]) if facts["gateway"] else None,
        ip_range=ip_network(facts["ip_range"]) if facts["ip_range"] else None,
        auxiliary={name: ip_address(text) for name, text in facts["auxiliary"].items()},
        asked_for=facts["asked_for"],
    )


def predefined(pools: tuple[Pool, ...], bridge: str, now: datetime) -> tuple[Network, ...]:
    """Return the networks that every engine has, new: the usual one on ``bridge`` with the addresses of ``pools``."""
    options = {
        OPTION_DEFAULT_BRIDGE: "true",
        OPTION_ICC: "true",
        OPTION_MASQUERADE: "true",
        OPTION_HOST_BINDING: "0.0.0.0",
        OPTION_BRIDGE_NAME: bridge,
        OPTION_MTU: "1500",
    }
    return (
        Network(new_id(), BRIDGE, BRIDGE, now, bridge, pools=pools, options=options),
        Network(new_id(), HOST, HOST, now),
        Network(new_id(), NONE, NULL_DRIVER, now),
    )
