"""What crid counts."""

from prometheus_client import CollectorRegistry, Histogram

from crid.cni.model import Command


class CriMetrics:
    """The series of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._plugins = Histogram(
            "sampan_cri_cni_seconds",
            "Time that CNI plugins took, by plugin, command and outcome.",
            ["plugin", "command", "outcome"],
            registry=registry,
        )

    def ran(self, plugin: str, command: Command, seconds: float, outcome: str) -> None:
        """Take note of a plugin that has ended."""
        self._plugins.labels(plugin, command.value, outcome).observe(seconds)
