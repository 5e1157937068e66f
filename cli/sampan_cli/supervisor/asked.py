"""A service that runs while it is asked for something: the supervisor listens in its place and starts it for who comes.

The sockets are the supervisor's, and the service's for as long as it runs: who connects while it does not, waits. Its
configuration says where they are, so that a mistake in it is told when the engine starts, as any other service's is.
"""

import importlib
import os
import socket
from collections.abc import Mapping

from sampan.layout import Layout
from sampan.metrics import exposition
from sampan.service.config import load
from sampan.service.harness import ENTRANCE, METRICS
from sampan.service.listening import listen
from sampan.service.statefile import StateFile


class Asked:
    """Where one service is asked."""

    def __init__(self, name: str, layout: Layout) -> None:
        """Listen.

        Raises:
            SampanError: its configuration cannot be, or somebody else has the address of its metrics.
            OSError: the socket cannot be made.
        """
        # As ``main`` of a service is imported: by its name, and the only thing that is known of it here.
        kind = importlib.import_module(f"{name}.configuration").Config
        roots = ("--data-root", str(layout.data_root), "--run-root", str(layout.run_root))
        config = load(kind, name, roots, os.environ)
        self._name = name
        self._layout = layout
        self._state = StateFile(name, layout, config.socket_group, waits=True)
        scraped = exposition.listen(config.metrics, name, layout)
        self._metrics = "" if scraped is None else exposition.address_of(scraped)
        self.held: Mapping[str, socket.socket] = {} if scraped is None else {METRICS: scraped}
        try:
            self.held = {**self.held, ENTRANCE: listen(layout.socket(name), layout, config.socket_group)}
        except BaseException:
            self.close()
            raise

    @property
    def must_start(self) -> bool:
        """Whether the service was killed and has to put something in order, whoever asks."""
        return self._layout.unfinished(self._name).exists()

    def tell(self) -> None:
        """Tell that the service does not run and can be asked."""
        self._state.open(self._metrics)

    def close(self) -> None:
        """Listen no more."""
        for each in self.held.values():
            each.close()
        self._layout.socket(self._name).unlink(missing_ok=True)
        self._state.close()
