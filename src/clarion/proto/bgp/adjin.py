"""What a peer announces: counted and dropped (RFC 4271 §3.2, Adj-RIB-In without routes)."""

from clarion.base.addr import Prefix
from clarion.base.limits import BGP_INBOUND_PREFIXES_COUNTED
from clarion.proto.bgp.update import Update


class AdjIn:
    """Counts the prefixes a peer announces, exactly up to a bound and as "more" beyond it.

    Nothing is accepted into anything. The prefixes are told apart because a peer may announce one
    twice; a withdrawn prefix is no longer counted.
    """

    def __init__(self) -> None:
        self._prefixes: set[Prefix] = set()
        self._more = False

    @property
    def count(self) -> int:
        """Prefixes announced now, at most BGP_INBOUND_PREFIXES_COUNTED."""
        return len(self._prefixes)

    @property
    def more(self) -> bool:
        """The count once reached its bound, so there may be more."""
        return self._more

    def update(self, update: Update, bound: int) -> None:
        """Take in one UPDATE, counting up to `bound` where that is more than the usual bound."""
        self._prefixes.difference_update(update.withdrawn_all)
        bound = max(bound, BGP_INBOUND_PREFIXES_COUNTED)
        for prefix in update.announced:
            if len(self._prefixes) < bound:
                self._prefixes.add(prefix)
            elif prefix not in self._prefixes:
                self._more = True

    def clear(self) -> None:
        """The connection is gone."""
        self._prefixes.clear()
        self._more = False
