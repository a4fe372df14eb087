"""Adj-RIB-Out (RFC 4271 §3.2) as desired state: what a peer should have, in the least UPDATEs.

`desired` says what the peer should have. Where it has something else, the prefix waits: among the
updates, by group of attributes, or among the withdrawals, and beside it stands what the peer has
instead. So what the peer has is always known, and is nowhere written down twice.

Changes only move prefixes between these maps; bytes are made when `take` asks for them, from what
is true at that moment. A change that is superseded before leaves no trace on the wire, so a slow
peer costs one map and no queue. What `take` has handed out counts as had by the peer; when the
connection ends, `stop` forgets it.
"""

import enum
from collections.abc import Collection, Mapping

from clarion.base.addr import Prefix
from clarion.proto.bgp.encoder import Encoder
from clarion.proto.bgp.iana import FAMILY_OF_VERSION, Family, RefreshSubtype
from clarion.proto.bgp.routes import Group, Route, RouteTable, Terms, fits, group_of, grouped, heard
from clarion.proto.bgp.update import end_of_rib
from clarion.proto.bgp.wire import RouteRefresh, encode_route_refresh


class _Asked(enum.Enum):
    """What a peer has that asks for it again: no longer known, so never the same as desired."""

    AGAIN = enum.auto()


_Had = Group | _Asked | None
"""The group in which the peer has a prefix, as it heard it; None when it has nothing."""


class AdjOut:
    """Routes of one peer, before and during a connection.

    `set_routes` may be called at any time; `start` and `stop` frame a connection; between them
    `pending` says whether there is work and `take` hands out whole messages. Peers that are given
    the same encoder share the bytes of equal messages.
    """

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder or Encoder()
        self._known = False
        self._desired: dict[Prefix, Route] = {}
        self._refused: dict[Prefix, Route] = {}
        self._terms: Terms | None = None
        self._versions: tuple[int, ...] = ()
        self._updates: dict[Group, dict[Prefix, _Had]] = {}
        self._withdrawals: dict[int, dict[Prefix, _Had]] = {4: {}, 6: {}}
        self._markers: list[tuple[Family, bool]] = []  # True ends a refresh, False the first dump
        self._refreshing: dict[Family, bool] = {}  # True once the beginning was said
        self._refresh_later: set[Family] = set()  # asked for before the first dump was over
        self._announced = 0
        self._updates_built = 0

    @property
    def updates_built(self) -> int:
        """UPDATE messages handed out since the start, markers included."""
        return self._updates_built

    @property
    def refused(self) -> int:
        """Routes that carry more communities than BGP_COMMUNITY_BYTES_MAX, and are not sent."""
        return len(self._refused)

    @property
    def routes(self) -> list[Route] | None:
        """What was asked for last, whether sent, unsent or refused; None: nothing was said yet."""
        return [*self._desired.values(), *self._refused.values()] if self._known else None

    @property
    def announced(self) -> int:
        """Prefixes the peer has, as far as bytes were handed out."""
        return self._announced

    @property
    def unsent(self) -> int:
        """Prefixes whose state at the peer is not the desired one."""
        if self._terms is None:
            return len(self._desired)
        return sum(map(len, self._updates.values())) + sum(map(len, self._withdrawals.values()))

    @property
    def pending(self) -> bool:
        """Is there anything to take?"""
        if self._terms is None:
            return False
        markers = self._known and bool(self._markers)
        return bool(self._updates) or any(self._withdrawals.values()) or markers

    # -- what is desired -------------------------------------------------------------------------

    def set_routes(self, routes: Collection[Route]) -> None:
        """Replace the desired routes. Of two routes for a prefix the greater one counts."""
        table = routes if isinstance(routes, RouteTable) else RouteTable(routes)
        before, desired = self._desired, table.sendable.copy()
        self._desired, self._refused, self._known = desired, table.refused.copy(), True
        if self._terms is None:
            return
        if not self._announced and not self._updates:
            self._announce_all(table.groups)
            return
        for prefix, old in before.items():
            if prefix not in desired:
                self._change(prefix, old, None)
        for prefix, new in desired.items():
            former = before.get(prefix)
            if former is not new and former != new:
                self._change(prefix, former, new)

    def change_routes(self, changes: Mapping[Prefix, Route | None]) -> None:
        """Change what is desired of these prefixes only; None: nothing any more."""
        self._known = True
        for prefix, route in changes.items():
            old, new = self._desired.pop(prefix, None), route
            self._refused.pop(prefix, None)
            if new is not None and not fits(group_of(new)):
                self._refused[prefix], new = new, None
            if new is not None:
                self._desired[prefix] = new
            if self._terms is not None and old != new:
                self._change(prefix, old, new)

    def _change(self, prefix: Prefix, old: Route | None, new: Route | None) -> None:
        """The desired route of a prefix is another one: let it wait where it belongs now."""
        if prefix.version not in self._versions:
            return
        had = self._unwait(prefix, old)
        if new is None:
            if had is not None:
                self._withdrawals[prefix.version][prefix] = had
        elif (group := self._group(new)) != had:
            self._updates.setdefault(group, {})[prefix] = had

    def _group(self, route: Route) -> Group:
        """The group of a route as the peer hears it."""
        assert self._terms is not None
        return heard(group_of(route), internal=self._terms.internal)

    def _unwait(self, prefix: Prefix, desired: Route | None) -> _Had:
        """Let a prefix no longer wait; returns what the peer has of it."""
        if desired is None:
            return self._withdrawals[prefix.version].pop(prefix, None)
        group = self._group(desired)
        waiting = self._updates.get(group)
        if waiting is None or prefix not in waiting:
            return group
        had = waiting.pop(prefix)
        if not waiting:
            del self._updates[group]
        return had

    # -- the connection --------------------------------------------------------------------------

    def start(self, terms: Terms) -> None:
        """A connection is up: everything desired waits."""
        self.stop()
        self._terms = terms
        families = [family for family, _ in terms.next_hops]
        self._versions = tuple(
            version for version, family in FAMILY_OF_VERSION.items() if family in families
        )
        self._markers = [(family, False) for family in families]
        self._announce_all(grouped(self._desired.values()))

    def _announce_all(self, groups: Mapping[Group, Mapping[Prefix, None]]) -> None:
        """Let prefixes wait of which the peer has nothing."""
        assert self._terms is not None
        for group, prefixes in groups.items():
            if group[0] in self._versions:
                same = heard(group, internal=self._terms.internal)
                if same in self._updates:
                    self._updates[same].update(dict.fromkeys(prefixes))
                else:  # made at its full size, and not in steps
                    self._updates[same] = dict.fromkeys(prefixes)

    def stop(self) -> None:
        """The connection is gone, and with it all the peer had."""
        self._terms, self._versions = None, ()
        self._updates.clear()
        for withdrawals in self._withdrawals.values():
            withdrawals.clear()
        self._markers.clear()
        self._refreshing.clear()
        self._refresh_later.clear()
        self._announced = 0

    def refresh(self, family: Family, *, enhanced: bool) -> None:
        """Send all routes of a family again (RFC 2918 §4), framed if enhanced (RFC 7313 §4)."""
        version = next((v for v in self._versions if FAMILY_OF_VERSION[v] == family), None)
        if version is None:
            return
        if enhanced:
            if (family, False) in self._markers:  # RFC 7313 §4: no BoRR before the End-of-RIB
                self._refresh_later.add(family)
                return
            self._refreshing[family] = False
            if (family, True) not in self._markers:
                self._markers.append((family, True))
        withdrawals = self._withdrawals[version]
        for prefix in withdrawals:
            withdrawals[prefix] = _Asked.AGAIN
        for prefix, route in self._desired.items():
            if prefix.version == version:
                waiting = self._updates.setdefault(self._group(route), {})
                if waiting.get(prefix, _Asked.AGAIN) is not None:
                    waiting[prefix] = _Asked.AGAIN

    # -- the wire --------------------------------------------------------------------------------

    def take(self, limit: int) -> bytes:
        """Whole messages of together at most `limit` octets.

        There is none if `limit` is shorter than the longest message that the terms allow.
        Announcements precede withdrawals, so that traffic finds the new route before the old one
        goes; the End-of-RIB of a family follows when its routes have all been handed out.
        """
        parts: list[bytes] = []
        room = limit
        while self._terms is not None and room >= self._terms.message_bytes and self.pending:
            message = self._next_message(self._terms)
            parts.append(message)
            room -= len(message)
        return b"".join(parts)

    def _next_message(self, terms: Terms) -> bytes:
        for family, begun in self._refreshing.items():
            if not begun:  # RFC 7313 §4.1: BoRR before the routes
                self._refreshing[family] = True
                return encode_route_refresh(RouteRefresh(family, RefreshSubtype.BEGIN))
        if self._updates:
            return self._next_update(terms)
        for prefixes in self._withdrawals.values():
            if prefixes:
                return self._next_withdrawal(terms, prefixes)
        family, refreshed = self._markers.pop(0)
        if refreshed:  # RFC 7313 §4.1: EoRR after them
            del self._refreshing[family]
            return encode_route_refresh(RouteRefresh(family, RefreshSubtype.END))
        if family in self._refresh_later:
            self._refresh_later.remove(family)
            self.refresh(family, enhanced=True)
        self._updates_built += 1
        return end_of_rib(family)

    def _next_update(self, terms: Terms) -> bytes:
        group, waiting = next(iter(self._updates.items()))
        message = self._encoder.announce(terms, group, waiting)
        had = [waiting.popitem()[1] for _ in message.prefixes]
        if not waiting:
            del self._updates[group]
        self._announced += had.count(None)
        self._updates_built += 1
        return message.octets

    def _next_withdrawal(self, terms: Terms, prefixes: dict[Prefix, _Had]) -> bytes:
        message = self._encoder.withdraw(terms, prefixes)
        for _ in message.prefixes:
            prefixes.popitem()
        self._announced -= len(message.prefixes)
        self._updates_built += 1
        return message.octets
