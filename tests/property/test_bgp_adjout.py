"""Adj-RIB-Out under any sequence of events: receivers end with what is desired, told the least.

Three peers share an encoder: two internal ones on the same terms, and an external one. Each has a
receiver that reads what was taken and objects to what it did not need to hear.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.addr import Address, Prefix, parse_address
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_COMMUNITY_BYTES_MAX, BGP_EXTENDED_MESSAGE_BYTES
from clarion.proto.bgp.adjout import AdjOut
from clarion.proto.bgp.encoder import Encoder
from clarion.proto.bgp.iana import (
    FAMILY_OF_VERSION,
    IPV4_UNICAST,
    IPV6_UNICAST,
    Family,
    MessageType,
    RefreshSubtype,
)
from clarion.proto.bgp.routes import Route, RouteTable, Terms
from clarion.proto.bgp.update import decode_update
from clarion.proto.bgp.wire import Framer, decode_route_refresh

V4, V6 = parse_address("192.0.2.1"), parse_address("2001:db8::1")
OTHER_V6 = parse_address("2001:db8::2")
SMALL = 110
"""Octets of messages so short that a few prefixes fill them: 11 of IPv4, 2 of IPv6."""
BOTH = Terms(
    local_asn=64512,
    internal=True,
    four_octet_asn=True,
    next_hops=((IPV4_UNICAST, V4), (IPV6_UNICAST, V6)),
    message_bytes=SMALL,
)
ONLY_IPV6 = Terms(
    local_asn=64512,
    internal=False,
    four_octet_asn=True,
    next_hops=((IPV6_UNICAST, OTHER_V6),),
    message_bytes=BGP_EXTENDED_MESSAGE_BYTES,
)
TERMS = (BOTH, BOTH, ONLY_IPV6)

Attributes = tuple[int | None, tuple[int, ...], Address | None]


class Receiver:
    """A peer as RFC 4271 has it: a table, and an opinion about needless words."""

    def __init__(self, *, internal: bool) -> None:
        self._internal = internal
        self.table: dict[Prefix, Attributes] = {}
        self.asked: dict[Prefix, None] = {}
        self.stale: dict[Prefix, None] = {}
        self.ended: list[Family] = []
        self._framer = Framer(BGP_EXTENDED_MESSAGE_BYTES)

    def hear(self, data: bytes) -> None:
        self._framer.feed(data)
        while (frame := self._framer.next_frame()) is not None:
            if frame.type is MessageType.ROUTE_REFRESH:
                self._refresh(frame.body)
            else:
                assert frame.type is MessageType.UPDATE
                self._update(frame.body)

    def ask(self, family: Family) -> None:
        self.asked |= dict.fromkeys(self._of(family))

    def _of(self, family: Family) -> list[Prefix]:
        return [prefix for prefix in self.table if FAMILY_OF_VERSION[prefix.version] == family]

    def _refresh(self, body: bytes) -> None:
        message = decode_route_refresh(body)
        if message.subtype == RefreshSubtype.BEGIN:
            self.stale |= dict.fromkeys(self._of(message.family))
            self.ask(message.family)
            return
        assert message.subtype == RefreshSubtype.END
        for prefix in self._of(message.family):
            assert prefix not in self.stale, "RFC 7313 §4.2: stale routes go when the refresh ends"

    def _update(self, body: bytes) -> None:
        update = decode_update(body, four_octet_asn=True, internal=self._internal)
        assert update.faults == ()
        if update.end_of_rib is not None:
            self.ended.append(update.end_of_rib)
        given = update.attributes
        hop = given.mp_reach.next_hops[0] if given.mp_reach else given.next_hop
        attributes = given.local_pref, given.communities, hop
        for prefix in update.withdrawn_all:
            del self.table[prefix]  # KeyError: withdrawn needlessly
            self.asked.pop(prefix, None)
            self.stale.pop(prefix, None)
        for prefix in update.announced:
            known = prefix in self.table and self.table[prefix] == attributes
            assert not known or prefix in self.asked, "announced needlessly"
            self.table[prefix] = attributes
            self.asked.pop(prefix, None)
            self.stale.pop(prefix, None)


class World:
    """The desired routes, three peers and their receivers."""

    def __init__(self) -> None:
        encoder = Encoder()
        self.outs = [AdjOut(encoder) for _ in TERMS]
        self.receivers: list[Receiver | None] = [None] * len(TERMS)
        self.desired: dict[Prefix, Route] = {}

    def replace(self, routes: list[Route], shared: bool) -> None:
        self.desired = {}
        for route in sorted(routes):
            self.desired[route.prefix] = route
        given_routes = RouteTable(routes) if shared else routes
        for out in self.outs:
            out.set_routes(given_routes)

    def change(self, changes: dict[Prefix, Route | None]) -> None:
        for prefix, route in changes.items():
            self.desired.pop(prefix, None)
            if route is not None:
                self.desired[prefix] = route
        for out in self.outs:
            out.change_routes(changes)

    def start(self, peer: int) -> None:
        self.outs[peer].start(TERMS[peer])
        self.receivers[peer] = Receiver(internal=TERMS[peer].internal)

    def stop(self, peer: int) -> None:
        self.outs[peer].stop()
        self.receivers[peer] = None

    def take(self, peer: int, limit: int) -> None:
        data = self.outs[peer].take(limit)
        assert len(data) <= limit
        receiver = self.receivers[peer]
        if receiver is None:
            assert data == b""
        else:
            receiver.hear(data)

    def refresh(self, peer: int, family: Family, enhanced: bool) -> None:
        self.outs[peer].refresh(family, enhanced=enhanced)
        receiver = self.receivers[peer]
        if receiver is not None:
            receiver.ask(family)

    def check(self, peer: int) -> None:
        """Everything was taken: the receiver has what is desired, and both know it."""
        out, receiver, terms = self.outs[peer], self.receivers[peer], TERMS[peer]
        if receiver is None:
            assert not out.pending
            return
        while out.pending:
            self.take(peer, BGP_CHUNK_BYTES)
        hops = dict(terms.next_hops)
        assert receiver.table == {
            prefix: (
                route.local_pref if terms.internal else None,
                route.communities,
                hops[FAMILY_OF_VERSION[prefix.version]],
            )
            for prefix, route in self.desired.items()
            if FAMILY_OF_VERSION[prefix.version] in hops and route.communities != TOO_MANY
        }
        assert receiver.asked == {}
        assert out.unsent == 0
        assert out.announced == len(receiver.table)
        assert len(receiver.ended) == len(set(receiver.ended)) <= len(hops)


TOO_MANY = tuple(range(BGP_COMMUNITY_BYTES_MAX // 4 + 1))
PREFIXES = [
    Prefix(4, (V4.value & ~255) + number, 32)
    if number % 2
    else Prefix(6, (V6.value & ~255) + number, 128)
    for number in range(40)
]
OFTEN = PREFIXES + 5 * PREFIXES[:8]
"""Half of what is drawn is among eight of them. One draw per route: drawing is most of the time."""
routes = st.sampled_from(
    [Route(p, pref, said) for p in OFTEN for pref in (0, 1) for said in ((), (1,), TOO_MANY)]
)
changes = st.lists(
    st.sampled_from([(p, pref) for p in OFTEN for pref in (None, 0, 1)]), max_size=12
).map(lambda chosen: {p: None if pref is None else Route(p, pref) for p, pref in chosen})
peers = st.integers(0, len(TERMS) - 1)
limits = st.sampled_from([SMALL, 3 * SMALL, BGP_CHUNK_BYTES])
takes = st.tuples(st.just("take"), peers, limits)
events = st.one_of(
    st.tuples(st.just("replace"), st.lists(routes, max_size=40), st.booleans()),
    st.tuples(st.just("change"), changes),
    st.tuples(st.just("change"), changes),
    takes,
    takes,
    takes,
    st.tuples(
        st.just("refresh"), peers, st.sampled_from([IPV4_UNICAST, IPV6_UNICAST]), st.booleans()
    ),
    st.tuples(st.just("start"), peers),
    st.tuples(st.just("stop"), peers),
    st.tuples(st.just("check"), peers),
)


@settings(derandomize=True, max_examples=600, deadline=None, database=None)
@given(st.lists(events, min_size=5, max_size=40))
def test_receivers_end_with_what_is_desired_and_hear_nothing_needless(
    sequence: list[tuple[object, ...]],
) -> None:
    world = World()
    for peer in range(len(TERMS)):
        world.start(peer)
    for name, *arguments in sequence:
        getattr(world, str(name))(*arguments)
    for peer in range(len(TERMS)):
        world.check(peer)
