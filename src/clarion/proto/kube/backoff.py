"""How long to wait before the next attempt; the random part is handed in as a number."""

import msgspec


class BackoffPolicy(msgspec.Struct, frozen=True):
    """The first delay, the ceiling, and what a server may ask for at most, in seconds."""

    base: float
    cap: float
    factor: float = 2.0
    retry_after_cap: float = 300.0


class Backoff:
    """Counts failures in a row and turns them into delays.

    Half of each delay is fixed and half is random: clients that lost one server do not come back
    in step, and none comes back at once.
    """

    def __init__(self, policy: BackoffPolicy) -> None:
        self._policy = policy
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def succeed(self) -> None:
        """Forget the failures."""
        self._failures = 0

    def fail(self, jitter: float, retry_after: float = 0.0) -> float:
        """Count one more failure; seconds to wait before the next attempt.

        Args:
            jitter: A random number in [0, 1).
            retry_after: What the server asked for; never undercut, but bounded, since a typing
                error in some proxy must not silence this program for a day.
        """
        exponent = min(self._failures, 64)  # keeps the power finite
        self._failures += 1
        policy = self._policy
        delay = min(policy.cap, policy.base * policy.factor**exponent)
        delay *= 0.5 + jitter / 2
        if retry_after > 0:
            floor = min(retry_after, policy.retry_after_cap)
            delay = max(delay, floor * (1 + jitter / 10))
        return delay
