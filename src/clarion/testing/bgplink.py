"""Two BGP sessions joined back to back in memory, under a clock that the test moves.

Encoder and decoder of the same code check each other here; whether they are right about BGP is for
tables of bytes and for real routers to say.
"""

from collections.abc import Mapping

from clarion.base.addr import Address
from clarion.base.limits import BGP_EXTENDED_MESSAGE_BYTES
from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, State
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.session import Dial, Drop, Session, StateChanged
from clarion.proto.bgp.wire import Framer

CHUNK = 1 << 16


class Connection:
    """An in-memory TCP connection. `opener` dialled; a cut one loses everything silently."""

    def __init__(self, opener: str, acceptor: str) -> None:
        self.direction_of = {opener: Direction.OUTGOING, acceptor: Direction.INCOMING}
        self.other_of = {opener: acceptor, acceptor: opener}
        self.blocked: set[str] = set()
        self.cut = False
        self.framers = {end: Framer(BGP_EXTENDED_MESSAGE_BYTES) for end in (opener, acceptor)}


class BgpLink:
    """Two peers, `left` and `right`, and every connection between them.

    Attributes:
        now: The time, in seconds; `advance` moves it.
        reachable: While False, dialling fails.
        silent: While True, dialling neither succeeds nor fails.
        captured: Every message that was delivered: (sender, type, body).
        states: Every change of state: (end, state).
    """

    def __init__(
        self,
        left: PeerConfig,
        right: PeerConfig,
        *,
        left_endpoints: Mapping[str, Address | None] | None = None,
        right_endpoints: Mapping[str, Address | None] | None = None,
    ) -> None:
        self.now = 1000.0
        self.reachable, self.silent = True, False
        self.sessions = {"left": Session(left, self.now), "right": Session(right, self.now)}
        self.extra = {"left": left_endpoints or {}, "right": right_endpoints or {}}
        self.connections: list[Connection] = []
        self.captured: list[tuple[str, MessageType, bytes]] = []
        self.states: list[tuple[str, State]] = []
        self.dialled: list[str] = []

    @property
    def left(self) -> Session:
        """The session of the left end."""
        return self.sessions["left"]

    @property
    def right(self) -> Session:
        """The session of the right end."""
        return self.sessions["right"]

    def start(self, *ends: str) -> None:
        """Start these ends (or both) and let everything happen that needs no time."""
        for end in ends or ("left", "right"):
            self.sessions[end].start(self.now)
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        end = self.now + seconds
        while True:
            deadlines = [session.next_deadline() for session in self.sessions.values()]
            due = min((each for each in deadlines if each is not None), default=end)
            self.now = max(self.now, min(due, end))
            for session in self.sessions.values():
                session.timers(self.now)
            self.settle()
            if due >= end:
                return

    def settle(self) -> None:
        """Deliver until nothing moves."""
        while self._perform() or self._deliver():
            pass

    def cut(self) -> None:
        """Unplug the cable: connections stay up at both ends and carry nothing any more."""
        self.silent = True
        for connection in self.connections:
            connection.cut = True

    def mend(self) -> None:
        """Plug the cable in again; the connections from before are dead."""
        self.silent = False

    def messages(self, sender: str, kind: MessageType) -> list[bytes]:
        """Bodies of the captured messages of one type from one end."""
        return [body for who, what, body in self.captured if who == sender and what is kind]

    def _perform(self) -> bool:
        moved = False
        for end, session in self.sessions.items():
            for output in session.outputs():
                moved = True
                if isinstance(output, Dial):
                    self._dial(end)
                elif isinstance(output, Drop):
                    self._drop(end, output)
                elif isinstance(output, StateChanged):
                    self.states.append((end, output.new))
        return moved

    def _dial(self, end: str) -> None:
        self.dialled.append(end)
        other = "right" if end == "left" else "left"
        if self.silent:
            return
        if not self.reachable:
            self.sessions[end].lost(Direction.OUTGOING, "connection refused", self.now)
            return
        refusal = self.sessions[other].admit(self.now)
        self._perform()
        if refusal is not None:
            self.sessions[end].lost(Direction.OUTGOING, "connection closed", self.now)
            return
        connection = Connection(end, other)
        self.connections.append(connection)
        self.sessions[end].connected(Direction.OUTGOING, self._endpoints(end), self.now)
        self.sessions[other].connected(Direction.INCOMING, self._endpoints(other), self.now)

    def _endpoints(self, end: str) -> Endpoints:
        other = "right" if end == "left" else "left"
        local = self.sessions[other].config.peer_address
        remote = self.sessions[end].config.peer_address
        assert local is not None
        assert remote is not None
        extra = self.extra[end]
        return Endpoints(
            local=local,
            remote=remote,
            next_hop_ipv4=extra.get("next_hop_ipv4"),
            next_hop_ipv6=extra.get("next_hop_ipv6"),
            router_id=extra.get("router_id") or Address(4, 0xC0000200 | (end == "right") + 1),
        )

    def _find(self, end: str, direction: Direction) -> Connection | None:
        for connection in self.connections:
            if connection.direction_of.get(end) is direction:
                return connection
        return None

    def _drop(self, end: str, output: Drop) -> None:
        connection = self._find(end, output.direction)
        if connection is None:
            return
        other = connection.other_of[end]
        del connection.direction_of[end]
        if connection.cut or other not in connection.direction_of:
            self.connections.remove(connection)
            return
        self._hand_over(connection, end, output.last_words)
        self._perform()  # the last words may have made the other end close by itself
        if other in connection.direction_of:
            direction = connection.direction_of.pop(other)
            self.connections.remove(connection)
            self.sessions[other].lost(direction, "the peer closed the connection", self.now)

    def _deliver(self) -> bool:
        moved = False
        for connection in list(self.connections):
            for end, direction in list(connection.direction_of.items()):
                if len(connection.direction_of) < 2 or end in connection.blocked:
                    continue
                data = self.sessions[end].take(direction, CHUNK)
                if data and not connection.cut:
                    self._hand_over(connection, end, data)
                moved = moved or bool(data)
        return moved

    def _hand_over(self, connection: Connection, end: str, data: bytes) -> None:
        other = connection.other_of[end]
        framer = connection.framers[end]
        framer.feed(data)
        while (frame := framer.next_frame()) is not None:
            self.captured.append((end, frame.type, frame.body))
        self.sessions[other].receive(connection.direction_of[other], data, self.now)
