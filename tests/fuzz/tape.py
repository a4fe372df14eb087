"""Decisions read off bytes, so that any engine that makes bytes can drive a structured test."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Tape:
    """A finite source of numbers and strings of octets; beyond its end it gives zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def octet(self) -> int:
        """The next octet."""
        taken = self.octets(1)
        return taken[0] if taken else 0

    def octets(self, count: int) -> bytes:
        """The next `count` octets, or as many as are left."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def piece(self) -> bytes:
        """A string of octets behind its length in two octets."""
        return self.octets(int.from_bytes(self.octets(2), "big"))

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.octet() % len(choices)]


def piece(data: bytes) -> bytes:
    """What `Tape.piece` reads."""
    return len(data).to_bytes(2, "big") + data
