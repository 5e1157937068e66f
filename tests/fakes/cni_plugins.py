"""CNI plugins that do as a test says, and keep what they were asked."""

import json
import textwrap
from pathlib import Path

from sampan.json_types import JsonObject

ALL_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


def result(address: str, version: str = "1.0.0") -> JsonObject:
    """A result with one interface in the pod and one address of it."""
    family = {} if version.startswith("1") else {"version": "6" if ":" in address else "4"}
    return {
        "cniVersion": version,
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}],
        "ips": [{**family, "address": address, "interface": 1}],
    }


class CniPlugins:
    """A directory of plugins, each a shell script."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    def write(self, name: str, body: str, versions: tuple[str, ...] = ALL_VERSIONS) -> None:
        """Make a plugin: ``body`` runs for every command but VERSION, with what was on stdin in ``$stdin``."""
        spoken = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
        script = f"""\
            #!/bin/sh
            here={self.directory}
            stdin=$(cat)
            printf '%s' "$stdin" > "$here/stdin.{name}.$CNI_COMMAND"
            env > "$here/env.{name}.$CNI_COMMAND"
            printf '%s\\n' "$CNI_COMMAND {name} $CNI_CONTAINERID" >> "$here/calls"
            if [ "$CNI_COMMAND" = VERSION ]; then echo '{spoken}'; exit; fi
            """
        path = self.directory / name
        path.write_text(textwrap.dedent(script) + textwrap.dedent(body) + "\n")
        path.chmod(0o755)

    def works(self, name: str, address: str = "10.1.0.2/16", versions: tuple[str, ...] = ALL_VERSIONS) -> None:
        """Make a plugin that gives everybody the same address."""
        self.write(name, f"[ $CNI_COMMAND = ADD ] && echo '{json.dumps(result(address))}'; exit 0", versions)

    @property
    def calls(self) -> list[str]:
        """What was asked of whom for which container, but for versions."""
        try:
            lines = (self.directory / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.strip() for line in lines if not line.startswith("VERSION")]

    def stdin(self, name: str, command: str) -> JsonObject:
        """What a plugin was given when it was last asked this."""
        document: JsonObject = json.loads((self.directory / f"stdin.{name}.{command}").read_text())
        return document

    def env(self, name: str, command: str) -> dict[str, str]:
        """The variables of the call."""
        lines = (self.directory / f"env.{name}.{command}").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
