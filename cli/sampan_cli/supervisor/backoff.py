"""How long to wait before a service that died is started again."""

from dataclasses import dataclass
from typing import Final

# The first restart is immediate: whoever has a call under way waits for it. After that a service that cannot live
# gets less and less of the machine.
FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 30.0

# A service that was ready for this long has earned an immediate restart again.
HEALTHY_AFTER_S: Final = 5.0


@dataclass(slots=True)
class Backoff:
    """The deaths of one service in a row."""

    deaths: int = 0

    def delay_after_death(self, ready_for_s: float) -> float:
        """Count one death and return the seconds to wait: 0, 1, 2, 4 … 30.

        ``ready_for_s`` is how long the process had been ready, 0 if it never was.
        """
        if ready_for_s >= HEALTHY_AFTER_S:
            self.deaths = 0
        self.deaths += 1
        if self.deaths == 1:
            return 0.0
        # The exponent is bounded because 2.0 ** 1024 overflows, a few hours after a service broke for good.
        return min(FIRST_DELAY_S * 2.0 ** min(self.deaths - 2, 16), LONGEST_DELAY_S)
