"""When to ask a registry again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from imaged.registry.errors import Refusal, TransportError

T = TypeVar("T")

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

    async def run(self, ask: Callable[[], Awaitable[T]], retried: Callable[[Exception, float], None]) -> T:
        """Ask, again while that may help; ``retried`` is told of each failure, and of the seconds before the next try.

        Raises:
            TransportError, Refusal: the last failure.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await ask()
            except (TransportError, Refusal) as error:
                delay_s = self.delay_s(error, attempt)
                if delay_s is None:
                    raise
                retried(error, delay_s)
                await asyncio.sleep(delay_s)
