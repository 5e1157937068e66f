"""What the handlers work with."""

from dataclasses import dataclass

from dockerapi.http.hangup import HangupWatch
from dockerapi.metrics import ApiMetrics
from sampan.engine.engine import Engine


@dataclass(frozen=True, slots=True)
class Backend:
    """The services, and what belongs to this process."""

    engine: Engine
    metrics: ApiMetrics
    hangups: HangupWatch
