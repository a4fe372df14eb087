"""What the product may ask of the world: Protocols that `edge` implements and `testing` fakes."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that never jumps, for deadlines; one that people read, for records."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def now(self) -> datetime:
        """The date and time in UTC."""
        ...


class Entropy(Protocol):
    """Unpredictable values."""

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        ...

    def token(self, length: int) -> str:
        """`length` characters a-z0-9, for generated names."""
        ...

    def uid(self) -> str:
        """A new UUID in text form."""
        ...
