"""One session and any peer at all: whatever arrives in whatever order, the session has a future."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.addr import Prefix
from clarion.base.limits import BGP_CHUNK_BYTES
from clarion.proto.bgp.aspath import AsSegment
from clarion.proto.bgp.attrs import PathAttributes
from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, State
from clarion.proto.bgp.iana import IPV4_UNICAST, Cease, MessageType, Origin, SegmentType
from clarion.proto.bgp.open import Capabilities, GracefulRestart, Open, RestartFamily, encode_open
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import Dial, Session
from clarion.proto.bgp.update import Update, encode_update
from clarion.proto.bgp.wire import (
    KEEPALIVE,
    RouteRefresh,
    encode_frame,
    encode_route_refresh,
)

from .test_bgp_properties import LOCAL, REMOTE, attributes, families, many, opens, prefixes

gate = settings(derandomize=True, max_examples=300, deadline=None, database=None)

ENDS = Endpoints(local=LOCAL, remote=REMOTE, router_id=LOCAL)
RESTARTS = GracefulRestart(120, notifications=True, families=(RestartFamily(IPV4_UNICAST),))
SILENT = msgspec.structs.replace(RESTARTS, notifications=False)
OFFERS = [
    encode_open(Open(64513, 9, REMOTE, Capabilities(graceful_restart=restart)))
    for restart in (None, RESTARTS, SILENT)
]
GOOD = PathAttributes(
    origin=Origin.IGP,
    as_path=(AsSegment(SegmentType.AS_SEQUENCE, (64513,)),),
    next_hop=REMOTE,
)
updates = st.one_of(
    st.builds(
        lambda value, routes: encode_update(Update((), value, routes), four_octet_asn=False),
        attributes,
        many(prefixes(4)),
    ),
    st.builds(lambda gone: encode_update(Update(gone), four_octet_asn=False), many(prefixes(4))),
)
refreshes = st.builds(
    lambda family, subtype: encode_route_refresh(RouteRefresh(family, subtype)),
    families,
    st.integers(0, 3),
)
frames = st.one_of(
    st.builds(encode_frame, st.sampled_from(MessageType), st.binary(max_size=60)),
    opens.map(encode_open),
    st.sampled_from([*OFFERS, KEEPALIVE]),
    updates,
    refreshes,
    st.binary(max_size=60),
)


class World:
    """A session, the time, and what a driver would do with both."""

    def __init__(self, *, passive: bool) -> None:
        config = PeerConfig(
            name="peer",
            local_asn=64512,
            peer_asn=64513,
            peer_address=REMOTE,
            passive=passive,
            graceful_restart=120.0,
            max_prefixes=2,
        )
        self.now, self.started, self.dialling = 0.0, True, False
        self.session = Session(config, 0.0, 0.5, restarted_at=0.0)
        self.session.set_routes([Route(Prefix(4, 0xCB007107, 32))])
        self.session.start(0.0)

    def receive(self, direction: Direction, data: bytes) -> None:
        self.session.receive(direction, data, self.now)

    def routes(self, direction: Direction, update: bytes) -> None:
        self.receive(direction, update)

    def connected(self, direction: Direction, _: None) -> None:
        # As the edge does: an outgoing connection follows a Dial, an incoming one is admitted.
        if direction is Direction.INCOMING:
            wanted = self.session.admit(self.now) is None
        else:
            wanted, self.dialling = self.dialling, False
        if wanted:
            self.session.connected(direction, ENDS, self.now)

    def meet(self, direction: Direction, offer: bytes) -> None:
        """The peer does all that it should."""
        self.connected(direction, None)
        self.take(direction, None)
        self.receive(direction, offer + KEEPALIVE)

    def lost(self, direction: Direction, _: None) -> None:
        self.session.lost(direction, "gone", self.now)

    def wait(self, _: None, seconds: float) -> None:
        self.now += seconds
        self.session.timers(self.now)

    def take(self, direction: Direction, _: None) -> None:
        self.session.take(direction, BGP_CHUNK_BYTES)

    def stop(self, _: None, keep_routes: bool) -> None:
        self.session.stop(self.now, Cease.ADMINISTRATIVE_SHUTDOWN, keep_routes=keep_routes)
        self.started = False

    def start(self, _: None, __: None) -> None:
        if not self.started:
            self.session.start(self.now)
            self.started = True

    def bfd_down(self, _: None, __: None) -> None:
        self.session.bfd_down(self.now, "BFD is down")
        assert self.session.state is not State.ESTABLISHED

    def limit(self, _: None, number: int) -> None:
        config = msgspec.structs.replace(self.session.config, max_prefixes=number)
        self.session.configure(config, self.now)

    def look(self) -> None:
        """Do what the session asks, and hold its status against its state."""
        for output in self.session.outputs():
            if isinstance(output, Dial):
                assert self.session.state < State.OPEN_CONFIRM  # nobody dials a peer that is here
                self.dialling = True
        status, state = self.session.status(), self.session.state
        assert status.state is state or status.state is State.CONNECT
        up = state is State.ESTABLISHED
        assert status.flaps == status.established_count - up
        if not up:
            assert (status.prefixes_announced, status.inbound, status.families) == (0, (), ())
        assert not [row for row in status.inbound if row.limit and row.prefixes > row.limit]
        waits = state < State.OPEN_SENT and not self.session.config.passive
        if self.started and (waits or state is State.IDLE):
            assert self.session.next_deadline() is not None  # it will try again
        if not self.started:
            assert (state, self.session.next_deadline()) == (State.IDLE, None)


directions, nothing = st.sampled_from(Direction), st.none()
WORKS: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "receive": (directions, frames),
    "routes": (directions, updates),
    "connected": (directions, nothing),
    "meet": (directions, st.sampled_from(OFFERS)),
    "lost": (directions, nothing),
    "wait": (nothing, st.sampled_from([0.4, 1.5, 5.0, 61.0])),
    "take": (directions, nothing),
    "stop": (nothing, st.booleans()),
    "start": (nothing, nothing),
    "bfd_down": (nothing, nothing),
    "limit": (nothing, st.integers(0, 3)),
}
OFTEN = ["meet", "meet", "lost", "routes", "wait", "wait"]
works = st.one_of(*(st.tuples(st.just(name), *WORKS[name]) for name in [*WORKS, *OFTEN]))


@gate
@given(st.lists(works, min_size=10, max_size=40), st.booleans())
def test_a_session_survives_any_peer(history: list[tuple[str, Any, Any]], passive: bool) -> None:
    world = World(passive=passive)
    world.look()
    for work, first, second in history:
        getattr(world, work)(first, second)
        world.look()
