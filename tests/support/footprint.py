"""What an engine has in the kernel and on disk for its containers: the same before and after, or something leaked."""

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from runtimed.network.core.names import KernelNames
from sampan.layout import Layout
from tests.support.tools import eventually

# Directories whose entries come and go with containers, pulls and leases; relative to the data root and the run root.
# What is in the snapshotter's trash is being removed, or will be by the next start.
_DATA = ("imaged/ingests", "snapshotter/tmp", "runtimed/containers", "buildd/sources/scratch")
_RUN = (
    "runtimed/network/netns",
    "runtimed/bundles",
    "runtimed/attach",
    "runtimed/exits",
    "runtimed/steps",
    "runtimed/step-snapshots",
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sorted, so that a difference reads well when an assertion shows it."""

    mounts: tuple[str, ...]
    monitors: tuple[str, ...]  # conmon's command lines, shortened
    interfaces: tuple[str, ...]
    control_groups: tuple[str, ...]
    files: tuple[str, ...]

    def without(self, other: "Footprint") -> "Footprint":
        """Return what is here and not in ``other``."""
        return Footprint(
            *(tuple(sorted(set(getattr(self, f.name)) - set(getattr(other, f.name)))) for f in fields(self))
        )


NOTHING = Footprint((), (), (), (), ())


def footprint(layout: Layout) -> Footprint:
    """Look at everything there is now."""
    return Footprint(
        mounts=tuple(sorted(mounts(layout))),
        monitors=tuple(sorted(command for _, command in monitors(layout))),
        interfaces=tuple(sorted(_interfaces(KernelNames.of(layout)))),
        control_groups=tuple(sorted(str(group) for group in control_groups(layout) if len(group.name) >= 64)),
        files=tuple(sorted(_files(layout))),
    )


def mounts(layout: Layout) -> list[str]:
    """Mount points below the engine's roots, as this process sees them."""
    roots = (f"{layout.data_root}/", f"{layout.run_root}/")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [point for point in (line.split()[4] for line in lines) if point.startswith(roots)]


def monitors(layout: Layout) -> list[tuple[int, str]]:
    """Pid and command line of each conmon that works for the engine."""
    return [(pid, " ".join(words)[:200]) for pid, words in processes(layout) if Path(words[0]).name == "conmon"]


def processes(layout: Layout) -> list[tuple[int, list[str]]]:
    """Pid and command line of each process that was started with a path of the engine's: services and monitors."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended in the meantime
        if any(word == str(layout.run_root) or word.startswith(f"{layout.run_root}/") for word in words):
            found.append((int(entry.name), words))
    return found


def control_groups(layout: Layout) -> list[Path]:
    """Control groups of the engine and below, in every hierarchy."""
    root = Path("/sys/fs/cgroup")
    parents = [*root.glob(f"*/{layout.kernel_name}"), *root.glob(layout.kernel_name)]
    # Unlike Path.rglob, os.walk takes it that a directory is gone by the time it is looked into.
    return [Path(group) for parent in parents for group, _, _ in os.walk(parent)]


def kill_all(layout: Layout) -> None:
    """Kill the services and whatever is in the engine's control groups; what is paused dies when it is thawed."""
    for process, _ in processes(layout):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for group in control_groups(layout):
        with contextlib.suppress(OSError):  # it is gone
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    for group in control_groups(layout):
        for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                if (group / name).exists():
                    (group / name).write_text(thawed)


def remove_kernel_objects(layout: Layout) -> None:
    """Take away what an engine that stopped leaves for its next start: bridges, its tables, empty control groups."""
    names = KernelNames.of(layout)
    for link in _links():
        if link["ifname"] == names.default_bridge or str(link.get("ifalias", "")).startswith(names.owner):
            subprocess.run(["ip", "link", "delete", link["ifname"]], capture_output=True)
    for family in ("ip", "ip6"):
        subprocess.run(["nft", "delete", "table", family, names.table], capture_output=True)
    eventually(lambda: _without_control_groups(layout), "the engine's control groups are empty and gone")


def _without_control_groups(layout: Layout) -> bool:
    for group in sorted(control_groups(layout), reverse=True):
        with contextlib.suppress(OSError):  # the kernel lets go of one a moment after its last process
            group.rmdir()
    return not control_groups(layout)


def _interfaces(names: KernelNames) -> list[str]:
    links = _links()
    bridges = {
        link["ifname"]
        for link in links
        if link["ifname"] == names.default_bridge or str(link.get("ifalias", "")).startswith(names.owner)
    }
    return [f"{link['ifname']} on {link['master']}" for link in links if link.get("master") in bridges]


def _links() -> list[dict[str, str]]:
    shown = subprocess.run(["ip", "-json", "link", "show"], capture_output=True, check=True).stdout
    links: list[dict[str, str]] = json.loads(shown or "[]")
    return links


def _files(layout: Layout) -> list[str]:
    directories = [layout.data_root / name for name in _DATA] + [layout.run_root / name for name in _RUN]
    return [os.path.join(directory, name) for directory in directories for name in _names(directory)]


def _names(directory: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir(directory)
    return []
