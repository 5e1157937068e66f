"""The networks that every engine has: ``bridge``, ``host`` and ``none``."""

from datetime import datetime

from runtimed.network.core.model import (
    BRIDGE,
    HOST,
    NONE,
    NULL_DRIVER,
    OPTION_BRIDGE_NAME,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_MTU,
    Network,
    Pool,
)
from runtimed.network.core.names import new_id


def predefined(pool: Pool, bridge: str, now: datetime) -> tuple[Network, ...]:
    """Return them, new: the default one on ``bridge`` with the addresses of ``pool``."""
    options = {
        "com.docker.network.bridge.default_bridge": "true",
        OPTION_ICC: "true",
        OPTION_MASQUERADE: "true",
        OPTION_HOST_BINDING: "0.0.0.0",
        OPTION_BRIDGE_NAME: bridge,
        OPTION_MTU: "1500",
    }
    return (
        Network(new_id(), BRIDGE, BRIDGE, now, bridge, pools=(pool,), options=options),
        Network(new_id(), HOST, HOST, now),
        Network(new_id(), NONE, NULL_DRIVER, now),
    )
