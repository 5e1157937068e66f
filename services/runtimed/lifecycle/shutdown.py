"""Stop containers because the engine is stopped, as dockerd does without ``live-restore``, or because the machine is.

Reference: systemctl(1), ``is-system-running``; sd_booted(3).
"""

import asyncio
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from runtimed.containers.memory_store import UP, Entry
from runtimed.lifecycle.lifecycle import KILL_TIMEOUT_S, Lifecycle
from runtimed.oci.signals import parse_signal
from sampan.errors import SampanError
from sampan.log import log
from sampan.service.notify import EXTEND_TIMEOUT, notify

# Until its exit is recorded, its mounts are gone, and its address is free.
_CLEARED_S: Final = 10.0

_SYSTEMD: Final = Path("/run/systemd/system")  # is there where systemd is the machine's init
_ANSWER_S: Final = 5.0


def machine_goes_down() -> bool:
    """Whether systemd has begun to take the machine down, also to start it again; blocks.

    Nothing outlives that: systemd waits a minute and a half for processes that a unit has left, as a container's first
    one disregards its SIGTERM, and kills them.
    """
    if not _SYSTEMD.is_dir():
        return False
    try:
        asked = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("systemd does not say whether the machine goes down", error=str(error))
        return False
    return asked.stdout.strip() == b"stopping"


class Shutdown:
    """What becomes of containers at the end. What it is told may change at any time until then."""

    def __init__(
        self,
        entries: Iterable[Entry],
        lifecycle: Lifecycle,
        *,
        live_restore: bool,
        timeout_s: float,
        machine_goes_down: Callable[[], bool] = machine_goes_down,
    ) -> None:
        """``entries`` are those of every container, as they are when it is asked for them.

        With ``live_restore`` they run on, unless the machine goes down; what says so may block. Otherwise each gets
        ``timeout_s`` to end by itself, or its own time if that is longer.
        """
        self._entries = entries
        self._lifecycle = lifecycle
        self.live_restore = live_restore
        self.timeout_s = timeout_s
        self._machine_goes_down = machine_goes_down

    async def run(self) -> None:
        """Stop what is to be stopped, all at once; return when none runs, or only what could not be stopped.

        Their policies start them again with the engine, as after a power cut. Pods' containers are their kubelet's, and
        run on while the machine does. Whoever waits for this process is told how long it may take.
        """
        last = await asyncio.to_thread(self._machine_goes_down)
        if self.live_restore and not last:
            return
        tried: set[str] = set()
        while running := [each for each in self._entries if _concerned(each, tried, pods=last)]:
            longest = max([self.timeout_s, *(each.container.spec.stop_timeout_s or 0 for each in running)])
            notify(f"{EXTEND_TIMEOUT}={round((longest + KILL_TIMEOUT_S + _CLEARED_S) * 1e6)}")
            log.info("stopping containers", containers=len(running), timeout_s=longest)
            tried.update(each.id for each in running)
            await asyncio.gather(*(self._stop(each) for each in running))

    async def _stop(self, entry: Entry) -> None:
        await entry.settled()
        if entry.status not in UP:
            return  # what waits for its next start goes on waiting when the engine is back
        entry.stop_requested = True  # no policy is consulted behind this exit; and no client has asked for it
        spec = entry.container.spec
        grace_s = max(self.timeout_s, spec.stop_timeout_s or 0)
        try:
            await self._lifecycle.end(entry, grace_s, parse_signal(spec.stop_signal or "SIGTERM"))
        except (SampanError, OSError) as error:
            log.error("container runs on", container=entry.id, error=str(error))


def _concerned(entry: Entry, tried: set[str], *, pods: bool) -> bool:
    return entry.status in UP and (pods or not entry.container.spec.owner) and entry.id not in tried
