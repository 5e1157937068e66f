"""What a driver that sends is told, and what it promises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Driver(Protocol):
    """A way to a receiver. One thread uses it; ``abort`` may come from another."""

    def send(self, records: Sequence[bytes]) -> None:
        """Send whole lines and pieces of long ones. Raises OSError; then all of them are sent once more."""

    def abort(self) -> None:
        """Let go of the receiver, also in the middle of ``send``; the next one looks for it again."""


@dataclass(frozen=True, slots=True)
class Shipping:
    """What is sent where. It travels as JSON."""

    driver: str
    options: Mapping[str, str]
    tag: str
    attributes: Mapping[str, str]
    container: Mapping[str, str]  # id, name, image_id, image_name, command, created
    hostname: str
    buffer_bytes: int = 0  # 0: blocking
