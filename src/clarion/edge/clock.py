"""The clocks and the randomness of this machine, behind the ports of `clarion.base.ports`."""

import random
import secrets
import time
import uuid
from datetime import UTC, datetime

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels and no look-alikes, as Kubernetes does


class SystemClock:
    """The machine's monotonic and wall clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def now(self) -> datetime:
        """The date and time in UTC."""
        return datetime.now(UTC)


class SystemEntropy:
    """Randomness from the kernel for names, a fast generator for jitter."""

    def __init__(self) -> None:
        self._jitter = random.Random()  # noqa: S311 - spreads retries in time, guards no secret

    def random(self) -> float:
        """A number in [0, 1), for jitter."""
        return self._jitter.random()

    def token(self, length: int) -> str:
        """`length` characters a-z0-9, for generated names."""
        return "".join(secrets.choice(_NAME_ALPHABET) for _ in range(length))

    def uid(self) -> str:
        """A new UUID in text form."""
        return str(uuid.uuid4())
