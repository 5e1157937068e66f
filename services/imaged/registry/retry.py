"""When to ask a registry again."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imaged.registry.errors import Refusal, TransportError

_MAX_DELAY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how long to wait in between."""

    attempts: int = 5
    base_s: float = 1.0
    jitter: Callable[[], float] = random.random

    def delay_s(self, failure: Exception, attempt: int) -> float | None:
        """Return the seconds to wait after attempt number ``attempt`` (from 1) failed, None to give up.

        Delays double, each with up to a quarter of jitter, and are never shorter than what ``Retry-After`` asks for.
        """
        if attempt >= self.attempts:
            return None
        delay_s: float = min(_MAX_DELAY_S, self.base_s * 2.0 ** (attempt - 1)) * (1 + self.jitter() / 4)
        if isinstance(failure, TransportError):
            return delay_s
        if isinstance(failure, Refusal) and failure.retriable:
            return max(delay_s, failure.retry_after_s or 0.0)
        return None
