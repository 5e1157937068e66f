"""Which platforms' programs this host can run: its own, older ones of its kind, and those that it has emulators for.

Reference: the kernel's Documentation/admin-guide/binfmt-misc.rst.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sampan.oci.platform import Platform

BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")

# What else a processor runs by itself.
_ALSO: Final = {
    "amd64": (Platform("linux", "386"),),
    "arm64": (Platform("linux", "arm", "v7"), Platform("linux", "arm", "v6")),
    "arm": (Platform("linux", "arm", "v6"),),
}

# The name of QEMU's emulator, which is also that of its registration.
_EMULATORS: Final = {
    "386": "qemu-i386",
    "amd64": "qemu-x86_64",
    "arm": "qemu-arm",
    "arm64": "qemu-aarch64",
    "loong64": "qemu-loongarch64",
    "mips64": "qemu-mips64",
    "mips64le": "qemu-mips64el",
    "ppc64le": "qemu-ppc64le",
    "riscv64": "qemu-riscv64",
    "s390x": "qemu-s390x",
}


class HostPlatforms:
    """What can be run here. The kernel is asked each time, as emulators come and go."""

    def __init__(self, host: Platform, binfmt: Path = BINFMT) -> None:
        self.host = host
        self._binfmt = binfmt

    def runnable(self) -> Sequence[Platform]:
        """Return all platforms whose programs run here, the host's own first; blocks for no longer than procfs does."""
        own = (self.host, *_ALSO.get(self.host.architecture, ()))
        known = {each.architecture for each in own}
        emulated = [name for name in sorted(_EMULATORS) if name not in known and self._emulates(name)]
        return (*own, *(Platform("linux", name) for name in emulated))

    def advice(self, platform: Platform) -> str:
        """Return why programs of ``platform`` fail here, and the way out; empty if nothing is known to keep them.

        It is no reason not to run one: its root may have the emulator that a registration names, and a handler may be
        registered under any name. The kernel says in the end what it can execute.
        """
        if platform.os == "linux" and any(each.architecture == platform.architecture for each in self.runnable()):
            return ""
        if platform.os != "linux" or platform.architecture not in _EMULATORS:
            return f"programs for {platform} do not run on {self.host}"
        return (
            f"programs for {platform} do not run on {self.host}: no emulator is set up for {platform.architecture}. "
            "Install one: apt-get install qemu-user-static binfmt-support, "
            f"or docker run --privileged --rm tonistiigi/binfmt --install {platform.architecture}"
        )

    def _emulates(self, architecture: str) -> bool:
        """Say whether an emulator is set up; without the flag F it would have to be in the step's own root."""
        try:
            text = (self._binfmt / _EMULATORS[architecture]).read_text()
        except OSError:
            return False
        lines = text.splitlines()
        flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
        return lines[:1] == ["enabled"] and "F" in flags
