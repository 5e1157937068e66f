"""Where runtimed keeps what belongs to a step while it runs; what is there when runtimed starts is a leftover."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from runtimed.conmon.conmon import RuntimeCommand
from runtimed.containers.paths import Paths
from runtimed.oci.runtime import CALL_LOG


@dataclass(frozen=True, slots=True)
class StepPaths:
    """The places of one step."""

    id: str
    paths: Paths

    @property
    def bundle(self) -> Path:
        """Its OCI bundle, in which is everything else but its scratch."""
        return self.paths.steps / self.id

    @property
    def cgroup(self) -> Path:
        """Says which cgroup it has; written before there is anything that would have to be cleared."""
        return self.bundle / "cgroup"

    @property
    def pid(self) -> Path:
        """Where the runtime leaves the pid of its first process."""
        return self.bundle / "pid"

    @property
    def process(self) -> Path:
        """What runs, if it is a further process of another step's."""
        return self.bundle / "process.json"

    @property
    def log(self) -> Path:
        """What the runtime said."""
        return self.bundle / CALL_LOG

    @property
    def files(self) -> Path:
        """Where hosts, hostname and resolv.conf are."""
        return self.bundle / "files"

    @property
    def sources(self) -> Path:
        """What is mounted into it, by number: mounts of ours, so that no link can be put in their way."""
        return self.bundle / "sources"

    @property
    def secrets(self) -> Path:
        """A tmpfs with the files that it was sent."""
        return self.bundle / "secrets"

    @property
    def scratch(self) -> Path:
        """What it writes and nobody keeps."""
        return self.paths.step_scratch / self.id

    def runtime(self, command: RuntimeCommand) -> RuntimeCommand:
        """Return the runtime with a state directory of the step's own, which goes with the bundle."""
        return replace(command, root=self.bundle / "state")


def snapshot_directory(paths: Paths, key: str) -> Path:
    """Return where a snapshot is mounted; a key may be anything."""
    return paths.step_snapshots / hashlib.sha256(key.encode()).hexdigest()[:32]
