"""Makes two routers at the ends of one link known to each other (RFC 4861 §6.2, §6.3.7).

One `Beacon` per interface with an unnumbered peer: it advertises us while the interface can speak,
asks once for the other end, and tells who that is. A machine without I/O: the driver calls it with
the time, sends what `outputs` returns, and comes back at `next_deadline`.
"""

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import (
    ND_ADVERTISE_SECONDS_MAX,
    ND_ADVERTISE_SECONDS_MIN,
    ND_ANSWER_DELAY_SECONDS,
    ND_ANSWER_GAP_SECONDS,
    ND_EARLY_ADVERTISEMENTS,
    ND_SOLICIT_SECONDS,
    ND_SOLICITATIONS,
)
from clarion.proto.nd.messages import (
    ALL_NODES,
    ALL_ROUTERS,
    Advertisement,
    Solicitation,
    encode_advertisement,
    encode_solicitation,
)


class Send(msgspec.Struct, frozen=True):
    """An ICMPv6 payload for a group of the link, to go with hop limit 255."""

    destination: Address
    payload: bytes


class Beacon:
    """One interface. `jitter` is a number in [0, 1) that the driver may renew before each call."""

    def __init__(self) -> None:
        self.jitter = 0.0
        self.neighbor: Address | None = None
        """Link-local address of the other end, as far as known."""
        self.strangers = 0
        """Advertisements of further routers, where the link should have one other end only."""
        self._link_layer: bytes = b""
        self._neighbor_link_layer: bytes = b""
        self._speaking = False
        self._early = 0
        self._advertise_at: float | None = None
        self._advertised_at = self._solicited_at = float("-inf")
        self._solicit_at: float | None = None
        self._solicitations = 0
        self._outputs: list[Send] = []

    def up(self, link_layer: bytes, now: float) -> None:
        """The interface can speak: introduce ourselves and ask who else is there, at once.

        RFC 4861 §6.3.7 has hosts wait up to a second so that not all ask together when the power
        comes back; here the link has two ends.
        """
        self._link_layer = link_layer
        self._speaking = True
        self._early = ND_EARLY_ADVERTISEMENTS
        self._advertise_at = now
        self.solicit(now)
        self.timers(now)

    def down(self) -> None:
        """The interface cannot speak: who is at the other end later may be somebody else."""
        self._speaking = False
        self.neighbor, self._neighbor_link_layer = None, b""
        self._advertise_at = self._solicit_at = None

    def stop(self) -> None:
        """No more advertisements (RFC 4861 §6.2.5: a last one with a Router Lifetime of zero)."""
        if self._speaking:
            self._outputs.append(Send(ALL_NODES, encode_advertisement(self._link_layer)))
        self.down()

    def solicit(self, now: float) -> None:
        """Ask who is at the other end, unless that is being done."""
        if self._speaking and self._solicit_at is None:
            # RFC 4861 §6.3.7: not more often than every RTR_SOLICITATION_INTERVAL
            self._solicit_at = max(now, self._solicited_at + ND_SOLICIT_SECONDS)
            self._solicitations = ND_SOLICITATIONS

    def meet(self, source: Address) -> None:
        """The other end spoke to us in another way, before it advertised itself."""
        if self._speaking and self.neighbor is None:
            self.neighbor = source

    def hear(
        self, message: Solicitation | Advertisement, now: float, *, settled: bool = False
    ) -> None:
        """A message arrived.

        Args:
            message: What it says.
            now: The time.
            settled: A session with the present neighbour is up. Another router does not take its
                place then: two that advertise in turn would end each other's sessions for ever. The
                same router under another address does; its hardware address tells.
        """
        if not self._speaking:
            return
        if isinstance(message, Solicitation):
            self._answer(now)
            return
        self._solicit_at = None  # RFC 4861 §6.3.7: once a router is heard, desist
        same = message.source == self.neighbor
        # One that was only met, or is on a link without hardware addresses, may be the same.
        moved = self._neighbor_link_layer in (b"", message.link_layer)
        if self.neighbor is not None and not same:
            self.strangers += not moved
            if settled and not moved:
                return
        self.neighbor, self._neighbor_link_layer = message.source, message.link_layer

    def _answer(self, now: float) -> None:
        # RFC 4861 §6.2.6: after a random delay, to all nodes, with MIN_DELAY_BETWEEN_RAS in between
        # and one answer for all who ask meanwhile; so questions cannot make us talk more.
        delayed = now + ND_ANSWER_DELAY_SECONDS * self.jitter
        due = max(delayed, self._advertised_at + ND_ANSWER_GAP_SECONDS)
        if self._advertise_at is None or due < self._advertise_at:
            self._advertise_at = due

    def timers(self, now: float) -> None:
        """Send what is due."""
        if self._advertise_at is not None and self._advertise_at <= now:
            self._outputs.append(Send(ALL_NODES, encode_advertisement(self._link_layer)))
            self._advertised_at = now
            # RFC 4861 §6.2.4: uniformly between MinRtrAdvInterval and MaxRtrAdvInterval; the first
            # ones follow sooner, for the other end may not have been listening yet.
            spread = ND_ADVERTISE_SECONDS_MAX - ND_ADVERTISE_SECONDS_MIN
            self._early = max(0, self._early - 1)
            jitter = 0.0 if self._early else self.jitter
            self._advertise_at = now + ND_ADVERTISE_SECONDS_MIN + spread * jitter
        if self._solicit_at is not None and self._solicit_at <= now:
            self._outputs.append(Send(ALL_ROUTERS, encode_solicitation(self._link_layer)))
            self._solicited_at = now
            self._solicitations -= 1
            # RFC 4861 §6.3.7: at most MAX_RTR_SOLICITATIONS, each RTR_SOLICITATION_INTERVAL apart
            more = self._solicitations > 0
            self._solicit_at = now + ND_SOLICIT_SECONDS if more else None

    def next_deadline(self) -> float | None:
        """When `timers` is to be called, at the latest."""
        deadlines = (self._advertise_at, self._solicit_at)
        return min((each for each in deadlines if each is not None), default=None)

    def outputs(self) -> list[Send]:
        """What is to be sent, in order; each is returned once."""
        outputs, self._outputs = self._outputs, []
        return outputs
