"""Trying the drivers, and what the last trial found: kept for a start that cannot try because the disk is full.

<root>/drivers.json   by driver: whether it is usable, why, and what it needs to know itself
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import NoSpaceError, UnimplementedError
from sampan.log import log
from sampan.resource.snapshot import DriverReport
from sampan.sys.files import is_full
from snapshotter.drivers.driver import Driver

_FILE: Final = "drivers.json"


@dataclass(frozen=True, slots=True)
class _Trial:
    """What came of trying one driver."""

    usable: bool
    reason: str
    found: str = ""  # for ``Driver.assume``


async def try_all(drivers: Mapping[str, Driver], root: Path) -> dict[str, DriverReport]:
    """Try every driver below ``root``; where the disk has no space for that, believe the last trial.

    Otherwise a full disk would look like a kernel without overlays, and another driver would be chosen, which cannot
    show what is there.

    Raises:
        NoSpaceError: the disk is full, and the drivers have never been tried.
    """
    last = _read(root / _FILE)
    trials: dict[str, _Trial] = {}
    for name, driver in drivers.items():
        try:
            reason = await driver.probe(root)
            trials[name] = _Trial(usable=True, reason=reason, found=driver.found)
        except UnimplementedError as error:
            trials[name] = _Trial(usable=False, reason=str(error))
        except NoSpaceError:
            if name not in last:
                raise
            trials[name] = last[name]
            if last[name].usable:
                driver.assume(last[name].found)
            log.warning("driver not tried: the disk is full", driver=name, last=last[name].reason)
    if trials != last:
        _write(root / _FILE, trials)
    return {name: DriverReport(name, trial.usable, trial.reason) for name, trial in trials.items()}


def _read(path: Path) -> dict[str, _Trial]:
    try:
        return {name: _Trial(**facts) for name, facts in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # never written, or only half
        return {}


def _write(path: Path, trials: Mapping[str, _Trial]) -> None:
    facts = {name: {"usable": t.usable, "reason": t.reason, "found": t.found} for name, t in trials.items()}
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(facts))
        temporary.rename(path)
    except OSError as error:
        if not is_full(error):
            raise
        temporary.unlink(missing_ok=True)
