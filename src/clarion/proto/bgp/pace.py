"""When to try again after a session or an attempt failed (RFC 4271 §8, DampPeerOscillations)."""

from clarion.base.limits import BGP_RECONNECT_SECONDS_MIN, BGP_STABLE_SECONDS

_DOUBLINGS_MAX = 16


class Pace:
    """Counts failures; each doubles the wait, a session that lived for a while ends the series."""

    def __init__(self) -> None:
        self._failures = 0
        self._resting_until = 0.0

    def failed(self, longest: float) -> float:
        """Seconds to wait after one more failure, at most `longest`."""
        delay = BGP_RECONNECT_SECONDS_MIN * 2.0 ** min(self._failures, _DOUBLINGS_MAX)
        self._failures += 1
        return min(delay, longest)

    def lived(self, seconds: float) -> None:
        """A session ended that was established for so long."""
        if seconds >= BGP_STABLE_SECONDS:
            self._failures = 0

    def rest(self, until: float) -> None:
        """Have nothing to do with the peer until then, whoever opens a connection."""
        self._resting_until = until

    def resting(self, now: float) -> bool:
        """Is it too early for any connection?"""
        return now < self._resting_until
