"""What an engine has of its machine: facts about it, programs that it runs, and what it mounts and clears with."""

import os
import shutil
from pathlib import Path

from runtimed.cgroups.naming import CgroupNames, read_driver
from runtimed.cgroups.orphans import Orphans
from runtimed.configuration import RuntimedConfig
from runtimed.conmon.conmon import Conmon, RuntimeCommand
from runtimed.containers.paths import Paths
from runtimed.host.advisories import sentence
from runtimed.host.facts import read_host
from runtimed.host.info import Installed, conmon_version, find_init
from runtimed.host.runtimes import Runtimes, find_runtimes, named_paths
from runtimed.lifecycle.idmapped import MappedMounts
from runtimed.lifecycle.mounter import LinuxMounter
from runtimed.oci.builder import OciBundles
from runtimed.oci.runtime import OciRuntime
from sampan.errors import InvalidArgumentError
from sampan.service import harness


class Machine:
    """Read, looked for and tried once, when the service starts."""

    def __init__(self, service: harness.Service[RuntimedConfig], paths: Paths) -> None:
        """Raises InvalidArgumentError: the machine has not, or cannot do, what the configuration asks for."""
        config = service.config
        self._paths = paths
        self.facts = read_host()
        self.cgroups = CgroupNames(service.layout.kernel_name, read_driver(config.cgroup_driver))
        if config.remapping is not None and not self.facts.is_at_least(5, 19):
            raise InvalidArgumentError(f"userns_remap: Linux {self.facts.kernel} cannot map layers, 5.19 can")
        self.runtimes = self._find_runtimes(service)
        self.bundles = OciBundles(
            self.facts,
            cgroups=self.cgroups,
            runtimes=self.runtimes.names,
            cdi_spec_dirs=config.cdi_spec_dirs,
        )
        self._conmon_path = config.conmon_path or shutil.which("conmon") or "conmon"
        self.conmon = Conmon(Path(self._conmon_path), os.environ)
        self.init_path = find_init(config.init_path)
        mapped = MappedMounts(paths.layers)
        mapped.clear()
        service.stack.callback(mapped.close)
        self.mounter = LinuxMounter(mapped)
        self.orphans = Orphans(self.facts.trees)

    def _find_runtimes(self, service: harness.Service[RuntimedConfig]) -> Runtimes:
        found = find_runtimes(
            self.facts,
            scratch=self._paths.run,
            cache=self._paths.data / "runtimes.json",
            cgroups=self.cgroups,
            preferred=service.config.runtime,
            configured=named_paths(service.config.runtimes),
        )
        for each in found.found:
            if each.vulnerabilities:
                told = sentence(each.name, each.version, each.vulnerabilities)
                service.state.note(f"runtime {each.name}", told)
        return found

    def oci_runtimes(self) -> dict[str, OciRuntime]:
        """Return what containers are run with, by its name."""
        return {
            found.name: OciRuntime(
                found.name,
                RuntimeCommand(Path(found.path), self._paths.oci_root(found.name), found.creates_by),
                os.environ,
            )
            for found in self.runtimes.found
        }

    def step_runtime(self) -> RuntimeCommand:
        """Return what steps of builds are run with from here on."""
        runtime = self.runtimes.choose_to_stay()
        return RuntimeCommand(Path(runtime.path), self._paths.oci_root(runtime.name), runtime.creates_by)

    async def installed(self) -> Installed:
        """Return which programs there are, as clients are told."""
        return Installed(self.runtimes, await conmon_version(self._conmon_path, os.environ), self.init_path)
