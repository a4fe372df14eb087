"""Two sessions through cuts, restarts and collisions: they meet again, and a helper keeps routes.

The helper is the peer as RFC 4724 §4.2 and RFC 8538 §4.1 describe it, made of nothing but what it
sees: the messages that arrive and the losses of its session.
"""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.addr import Address, Prefix
from clarion.proto.bgp.config import PeerConfig, State
from clarion.proto.bgp.iana import IPV4_UNICAST, Cease, MessageType
from clarion.proto.bgp.notify import decode_notification
from clarion.proto.bgp.open import decode_open
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import Session
from clarion.proto.bgp.update import decode_update
from clarion.testing.bgplink import BgpLink

gate = settings(derandomize=True, max_examples=200, deadline=None, database=None)

LEFT, RIGHT = Address(4, 0xC0000201), Address(4, 0xC0000202)
ALWAYS = Route(Prefix(4, 0xCB007100, 32))
SOMETIMES = [Route(Prefix(4, 0xCB007100 + n, 32)) for n in range(1, 5)]


class Tee(list[Any]):
    """A list whose new members are also told to somebody, with a word on what they are."""

    def __init__(self, what: str, told: list[tuple[str, Any]]) -> None:
        self.what, self.told = what, told

    def append(self, item: Any) -> None:
        super().append(item)
        self.told.append((self.what, item))


class Helper:
    """The routes that the right end uses."""

    def __init__(self, joined: BgpLink) -> None:
        self.fresh: set[Prefix] = set()
        self.stale: set[Prefix] = set()
        self.established = self.flushed = False
        self.told: list[tuple[str, Any]] = []
        joined.captured = Tee("message", self.told)
        joined.states = Tee("state", self.told)

    @property
    def used(self) -> set[Prefix]:
        return self.fresh | self.stale

    def look(self) -> None:
        """Take in what happened since the last look, in its order."""
        for what, (end, *rest) in self.told:
            if what == "state" and end == "right":
                self.moved(rest[0])
            elif what == "message" and end == "left":
                self.read(*rest)
        self.told.clear()

    def moved(self, state: State) -> None:
        lost, self.established = self.established, state is State.ESTABLISHED
        if lost and not self.established:
            self.stale, self.fresh = self.used, set()
            if self.flushed:  # RFC 8538 §4.1: after a Hard Reset nothing is kept
                self.stale, self.flushed = set(), False

    def read(self, kind: MessageType, body: bytes) -> None:
        if kind is MessageType.OPEN:
            restart = decode_open(body).capabilities.graceful_restart
            assert restart is not None
            if not all(row.forwarding_preserved for row in restart.families):
                self.stale = set()  # RFC 4724 §4.2
        elif kind is MessageType.NOTIFICATION:
            said = decode_notification(body)
            self.flushed = self.established and said.subcode == Cease.HARD_RESET
        elif kind is MessageType.UPDATE:
            update = decode_update(body, four_octet_asn=True, internal=False)
            self.fresh |= set(update.announced)
            self.stale -= set(update.announced)
            self.fresh -= set(update.withdrawn_all)
            self.stale -= set(update.withdrawn_all)
            if update.end_of_rib == IPV4_UNICAST:
                self.stale = set()


class World:
    """Both ends, and what may happen to them."""

    def __init__(self, *, passive: bool) -> None:
        base = PeerConfig(
            name="peer",
            local_asn=64512,
            peer_asn=64513,
            peer_address=RIGHT,
            hold_time=9.0,
            graceful_restart=4095.0,
            families=(IPV4_UNICAST,),
        )
        right = msgspec.structs.replace(
            base, local_asn=64513, peer_asn=64512, peer_address=LEFT, passive=passive
        )
        self.joined = BgpLink(base, right)
        self.helper = Helper(self.joined)
        self.wanted = [ALWAYS]
        self.joined.left.set_routes(self.wanted)
        self.joined.right.set_routes(())
        self.joined.start()
        self.jitter = 0.0

    def run(self, seconds: float) -> None:
        self.jitter = (self.jitter + 0.37) % 1
        for number, session in enumerate(self.joined.sessions.values()):
            session.jitter = (self.jitter + 0.5 * number) % 1
        self.joined.advance(seconds)
        self.helper.look()

    def routes(self, value: list[Route]) -> None:
        self.wanted = [ALWAYS, *dict.fromkeys(value)]
        if self.known:
            self.joined.left.set_routes(self.wanted)

    @property
    def known(self) -> bool:
        return self.joined.left.routes is not None

    def tell(self, _: Any) -> None:
        """The program has read its world and knows its routes."""
        self.joined.left.set_routes(self.wanted)

    def lose(self, _: Any) -> None:
        """The TCP connections break."""
        for connection in list(self.joined.connections):
            self.joined.connections.remove(connection)
            for end, direction in list(connection.direction_of.items()):
                self.joined.sessions[end].lost(direction, "reset by peer", self.joined.now)

    def cable(self, seconds: float) -> None:
        """The cable is out for a while."""
        self.joined.cut()
        self.run(seconds)
        self.joined.mend()

    def kill(self, _: Any) -> None:
        """The program dies, its kernel ends the connections, and it starts again."""
        for connection in list(self.joined.connections):
            self.joined.connections.remove(connection)
            direction = connection.direction_of.get("right")
            if direction is not None:
                self.joined.right.lost(direction, "reset by peer", self.joined.now)
        self._start_over()

    def vanish(self, _: Any) -> None:
        """It dies and nobody tells the peer."""
        for connection in self.joined.connections:
            connection.cut = True
            connection.direction_of.pop("left", None)
        self._start_over()

    def upgrade(self, _: Any) -> None:
        """It is stopped in order to be started again."""
        self.joined.left.stop(
            self.joined.now, Cease.ADMINISTRATIVE_SHUTDOWN, "upgrade", keep_routes=True
        )
        self.joined.settle()
        self._start_over()

    def _start_over(self) -> None:
        now = self.joined.now
        self.joined.sessions["left"] = Session(self.joined.left.config, now, restarted_at=now)
        self.joined.left.start(now)

    def pass_time(self, seconds: float) -> None:
        self.run(seconds)

    def check(self) -> None:
        for session in self.joined.sessions.values():
            status = session.status()
            assert status.flaps in (status.established_count, status.established_count - 1)
            assert status.restart is None or status.restart.notifications
        assert self.joined.left.next_deadline() is not None  # there is always a way on
        assert ALWAYS.prefix in self.helper.used


WORKS = {
    "routes": st.lists(st.sampled_from(SOMETIMES), max_size=4),
    "tell": st.none(),
    "lose": st.none(),
    "cable": st.floats(0, 30),
    "kill": st.none(),
    "vanish": st.none(),
    "upgrade": st.none(),
    "pass_time": st.floats(0, 20),
}
works = st.one_of(*(st.tuples(st.just(name), value) for name, value in WORKS.items()))


@gate
@given(st.lists(works, max_size=12), st.booleans())
def test_a_helper_uses_a_route_through_every_restart(
    history: list[tuple[str, Any]], passive: bool
) -> None:
    world = World(passive=passive)
    world.run(1.0)
    assert world.helper.used == {ALWAYS.prefix}
    for work, value in history:
        getattr(world, work)(value)
        world.run(0.0)
        world.check()
    world.tell(None)
    world.run(300.0)
    world.check()
    assert [session.state for session in world.joined.sessions.values()] == [State.ESTABLISHED] * 2
    assert len(world.joined.connections) == 1
    assert world.helper.fresh == {route.prefix for route in world.wanted}
    assert world.helper.stale == set()
    assert world.joined.right.status().prefixes_received == len(world.wanted)


@settings(gate, max_examples=80)  # what comes before the end is the matter of the other test
@given(st.lists(works, max_size=6), st.booleans())
def test_a_stop_for_good_or_a_new_start_takes_every_route_with_it(
    history: list[tuple[str, Any]], reboot: bool
) -> None:
    world = World(passive=True)
    for work, value in history:
        getattr(world, work)(value)
        world.run(0.0)
    world.tell(None)
    world.run(300.0)
    if reboot:
        world.vanish(None)
        now = world.joined.now
        world.joined.sessions["left"] = Session(world.joined.left.config, now)
        world.joined.left.start(now)
        world.run(60.0)
        assert world.joined.left.state is State.ESTABLISHED
    else:
        world.joined.left.stop(world.joined.now, Cease.ADMINISTRATIVE_SHUTDOWN)
        world.joined.settle()
        world.helper.look()
    assert world.helper.used == set()
