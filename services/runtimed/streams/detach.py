"""The keys that detach a client from a terminal and leave the process running."""

from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.streams import NO_DETACH_KEYS

DEFAULT_KEYS: Final = "ctrl-p,ctrl-q"

# "ctrl-" and one of these: the character's code without its upper bits.
_CONTROL: Final = {chr(code | 0x60): code for code in range(1, 27)} | {
    "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31,
}  # fmt: skip


def parse_detach_keys(keys: str) -> bytes:
    """Return the bytes that ``keys`` ("ctrl-p,ctrl-q", "ctrl-x,y", "a") stand for; the default ones if empty.

    None at all, which ``DetachScanner`` never finds, for ``NO_DETACH_KEYS``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if keys == NO_DETACH_KEYS:
        return b""
    sequence = bytearray()
    for key in (keys or DEFAULT_KEYS).split(","):
        name = key.lower().removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            sequence.append(ord(key))
        elif name != key.lower() and name in _CONTROL:
            sequence.append(_CONTROL[name])
        else:
            raise InvalidArgumentError(f"invalid detach keys ({keys}) provided: Unknown character: '{key}'")
    return bytes(sequence)


class DetachScanner:
    """Watches a client's input for the detach keys, which may come in pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what to pass on, and whether the keys are complete; what follows them is dropped.

        The beginning of the sequence is held back until the next input shows what it is.
        """
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
                if len(self._keys) == 1:
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False
