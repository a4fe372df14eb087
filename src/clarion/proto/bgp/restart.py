"""Our side of graceful restart (RFC 4724, RFC 8538): what an OPEN says of it, and how to leave.

This program forwards nothing itself: what takes the traffic of the announced addresses stands in
the kernel and outlives it. So routes are worth keeping while it restarts, unless the node did too.
"""

from typing import Final

from clarion.proto.bgp.config import PeerConfig
from clarion.proto.bgp.iana import MAX_RESTART_TIME, Cease, ErrorCode
from clarion.proto.bgp.notify import Notification
from clarion.proto.bgp.open import GracefulRestart, Negotiated, Open, RestartFamily

_HARD_FAREWELLS: Final = (
    Cease.MAXIMUM_NUMBER_OF_PREFIXES_REACHED,
    Cease.BFD_DOWN,
)
"""Ends of our own accord after which the peer should not use the routes any longer.

RFC 8538 §5.1 recommends it for the first, RFC 9384 §4 says how it looks for the second.
"""


class Restart:
    """What we have to say about restarts to one peer.

    Args:
        restarted_at: When this program started again, while traffic never stopped; None if this is
            its first start as far as the peer is concerned.
    """

    def __init__(self, restarted_at: float | None) -> None:
        self._restarted_at = restarted_at
        self._preserved = False

    def offer(self, config: PeerConfig, now: float) -> GracefulRestart | None:
        """The capability for an OPEN sent now."""
        seconds = min(int(config.graceful_restart), MAX_RESTART_TIME)
        if not seconds:
            return None
        # RFC 4724 §4.1: after the restart time the peer has forgotten us, and this is a new start.
        restarting = self._restarted_at is not None and now < self._restarted_at + seconds
        # RFC 8538 §4: set too when only the session was lost, as traffic did not stop then.
        preserved = restarting or self._preserved
        return GracefulRestart(
            restart_time=seconds,
            restarting=restarting,
            notifications=True,
            families=tuple(RestartFamily(family, preserved) for family in config.families),
        )

    def established(self) -> None:
        """The peer knows what we had to tell; the next loss is one of the session alone."""
        self._restarted_at, self._preserved = None, True

    def stopped(self) -> None:
        """The session was ended by order."""
        self._restarted_at, self._preserved = None, False


def hard_reset(reason: Notification) -> Notification:
    """A Hard Reset with the true reason inside (RFC 8538 §3)."""
    data = bytes((reason.code, reason.subcode)) + reason.data
    return Notification(ErrorCode.CEASE, Cease.HARD_RESET, data)


def last_words(reason: Notification, agreed: Negotiated | None) -> Notification:
    """What to send when we end a session by ourselves, so that a peer draws the right conclusion.

    RFC 8538 §4: to a peer that knows it, any NOTIFICATION but a Hard Reset says "keep the routes".
    """
    hard = reason.code == ErrorCode.CEASE and reason.subcode in _HARD_FAREWELLS
    return hard_reset(reason) if hard and _both_notify(agreed) else reason


def parting_words(
    reason: Notification, ours: Open | None, agreed: Negotiated | None, *, keep_routes: bool
) -> Notification | None:
    """What to send when the session is stopped by order; None: only the TCP connection ends.

    Args:
        reason: The true reason.
        ours: Our OPEN on this connection, once it was sent.
        agreed: What it and the peer's OPEN allow, once that is here.
        keep_routes: The peer is to keep our routes if it can.
    """
    if _both_notify(agreed):
        return reason if keep_routes else hard_reset(reason)  # RFC 8538 §4, §3
    offered = ours is not None and ours.capabilities.graceful_restart is not None
    helps = offered and (agreed is None or agreed.restart is not None)
    # RFC 4724 §4: after a NOTIFICATION the normal procedures follow, and the routes go.
    return None if keep_routes and helps else reason


def starts_anew(agreed: Negotiated | None) -> bool:
    """Does a new connection mean that the peer of an Established one has restarted?

    RFC 4724 §4.2, §5: it does when the peer offers graceful restart for some family.
    """
    return agreed is not None and agreed.restart is not None and bool(agreed.restart.peer_families)


def _both_notify(agreed: Negotiated | None) -> bool:
    return agreed is not None and agreed.restart is not None and agreed.restart.notifications
