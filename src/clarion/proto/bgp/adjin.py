"""What a peer announces: counted and dropped (RFC 4271 §3.2, Adj-RIB-In without routes)."""

from clarion.base.addr import Prefix
from clarion.base.limits import BGP_INBOUND_PREFIXES_COUNTED, BGP_PREFIX_WARNING_FRACTION
from clarion.proto.bgp.config import InboundStatus
from clarion.proto.bgp.iana import FAMILY_OF_VERSION, Family, RefreshSubtype
from clarion.proto.bgp.update import Update


class _Inbound:
    """The prefixes of one family."""

    def __init__(self) -> None:
        self.prefixes: set[Prefix] = set()
        self.stale: set[Prefix] | None = None  # of a refresh that is under way
        self.more = False
        self.complete = False

    def announce(self, prefix: Prefix, bound: int) -> None:
        if self.stale:
            self.stale.discard(prefix)
        if len(self.prefixes) < bound:
            self.prefixes.add(prefix)
        elif prefix not in self.prefixes:
            self.more = True

    def withdraw(self, prefix: Prefix) -> None:
        self.prefixes.discard(prefix)
        if self.stale:
            self.stale.discard(prefix)


class AdjIn:
    """Counts the prefixes a peer announces, exactly up to a bound and as "more" beyond it.

    Nothing is accepted into anything. The prefixes are told apart because a peer may announce one
    twice; a withdrawn prefix is no longer counted. Only families that were agreed on count.
    """

    def __init__(self) -> None:
        self._inbound: dict[Family, _Inbound] = {}

    @property
    def count(self) -> int:
        """Prefixes announced now, of each family at most BGP_INBOUND_PREFIXES_COUNTED."""
        return sum(len(inbound.prefixes) for inbound in self._inbound.values())

    @property
    def more(self) -> bool:
        """A count once reached its bound, so there may be more."""
        return any(inbound.more for inbound in self._inbound.values())

    def start(self, families: tuple[Family, ...]) -> None:
        """A connection is up on which these families may come."""
        self._inbound = {family: _Inbound() for family in families}

    def clear(self) -> None:
        """The connection is gone."""
        self._inbound = {}

    def update(self, update: Update, limit: int) -> None:
        """Take in one UPDATE, counting beyond `limit` where that is more than the usual bound."""
        for prefix in update.withdrawn_all:
            inbound = self._inbound.get(FAMILY_OF_VERSION[prefix.version])
            if inbound is not None:
                inbound.withdraw(prefix)
        bound = max(limit + 1, BGP_INBOUND_PREFIXES_COUNTED)
        for prefix in update.announced:
            inbound = self._inbound.get(FAMILY_OF_VERSION[prefix.version])
            if inbound is not None:
                inbound.announce(prefix, bound)
        ended = self._inbound.get(update.end_of_rib) if update.end_of_rib else None
        if ended is not None:  # RFC 4724 §2
            ended.complete = True

    def exceeding(self, limit: int) -> Family | None:
        """A family with more than `limit` prefixes; 0 allows any number."""
        over = (f for f, inbound in self._inbound.items() if limit < len(inbound.prefixes))
        return next(over, None) if limit else None

    def refresh(self, family: Family, subtype: int, *, restarts: bool) -> None:
        """The peer sends all routes of a family again: the beginning or the end of that.

        Args:
            family: Which.
            subtype: Beginning or end (RFC 7313 §3.2).
            restarts: The peer offers graceful restart.
        """
        inbound = self._inbound.get(family)
        if inbound is None:
            return
        if subtype == RefreshSubtype.BEGIN:
            # RFC 7313 §4: not before the first transfer is over, where the peer tells its end.
            if inbound.complete or not restarts:
                inbound.stale = set(inbound.prefixes)
        elif subtype == RefreshSubtype.END and inbound.stale is not None:
            # RFC 7313 §4: what did not come again is gone; an end without a beginning is nothing.
            inbound.prefixes -= inbound.stale
            inbound.stale = None

    def status(self, limit: int) -> tuple[InboundStatus, ...]:
        """Each family as it stands."""
        return tuple(
            InboundStatus(
                family,
                prefixes=len(inbound.prefixes),
                more=inbound.more,
                limit=limit,
                warning=bool(limit)
                and len(inbound.prefixes) >= limit * BGP_PREFIX_WARNING_FRACTION,
                complete=inbound.complete,
            )
            for family, inbound in self._inbound.items()
        )
