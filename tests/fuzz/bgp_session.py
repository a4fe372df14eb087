"""The whole BGP session machine, led by bytes through any history with any peer.

A tape is a list of steps: an octet that names the step, and what that step reads. Most steps frame
what they send as a valid message of a type, so that mutation reaches what is behind the marker.
"""

from clarion.base.addr import Address, Prefix
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_INBOUND_PREFIXES_COUNTED
from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, State
from clarion.proto.bgp.iana import SUBCODES, Cease, ErrorCode, MessageType
from clarion.proto.bgp.notify import decode_notification
from clarion.proto.bgp.open import Capabilities, encode_open, make_open
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import Dial, Drop, Session
from clarion.proto.bgp.update import assemble_update, decode_update
from clarion.proto.bgp.wire import KEEPALIVE, Framer, encode_frame

from .tape import Tape, piece

LOCAL, REMOTE = Address(4, 0xC0000201), Address(4, 0xC0000202)
ENDS = Endpoints(local=LOCAL, remote=REMOTE, router_id=LOCAL)
OURS, THEIRS = 64512, 64513
ROUTE = Route(Prefix(4, 0xCB007107, 32))
WAITS = (0.1, 1.0, 3.0, 9.0, 40.0, 100.0, 500.0, 2000.0)
STEPS = (
    "update",
    "message",
    "raw",
    "good open",
    "keepalive",
    "connect",
    "accept",
    "lost",
    "pass",
    "take",
    "stop",
    "start",
    "routes",
)
_TYPES = tuple(MessageType)


def step(what: str, *parts: bytes) -> bytes:
    """One step of a tape, for seeds; `parts` as the step reads them."""
    return bytes((STEPS.index(what),)) + b"".join(parts)


def good_open(asn: int = THEIRS) -> bytes:
    """An OPEN that is accepted."""
    return encode_open(make_open(asn, 9, REMOTE, Capabilities(route_refresh=True)))


ESTABLISHED = step("connect") + step("good open", b"\0") + step("keepalive", b"\0")
"""The steps that lead to Established."""

SEEDS = (
    ESTABLISHED + step("update", b"\0", piece(b""), piece(b""), piece(b"")),
    ESTABLISHED
    + step("update", b"\0", piece(b"\x18\xc6\x33\x64"), piece(b""), piece(b""))
    + step(
        "update",
        b"\0",
        piece(b""),
        piece(bytes.fromhex("40010100400206020100fc0140 0304c0000202".replace(" ", ""))),
        piece(b"\x18\xc6\x33\x64"),
    ),
    ESTABLISHED + step("message", b"\0\x04", piece(b"\0\x01\0\x01")) + step("take", b"\0"),
    step("accept") + step("good open", b"\1") + step("message", b"\1\x02", piece(b"\6\2")),
    step("connect") + step("raw", b"\0", piece(good_open())) + step("pass", b"\3"),
    step("connect") + step("accept") + step("good open", b"\0") + step("good open", b"\1"),
)


class World:
    """One session, its driver, and what is demanded of it at all times."""

    def __init__(self, passive: bool, internal: bool) -> None:
        self.asn = OURS if internal else THEIRS
        config = PeerConfig(
            name="peer",
            local_asn=OURS,
            peer_asn=self.asn,
            peer_address=REMOTE,
            passive=passive,
            max_prefixes=100,
        )
        self.now = 0.0
        self.session = Session(config, 0.0, jitter=0.5)
        self.session.set_routes([ROUTE])
        self.dialling = False
        self.on_line: dict[Direction, Framer] = {}
        self.heard: list[tuple[MessageType, bytes]] = []
        self.started = True
        self.session.start(0.0)
        self.settle()

    def settle(self) -> None:
        """Do what the machine asks, and judge it."""
        for output in self.session.outputs():
            if isinstance(output, Dial):
                self.dialling = True
            elif isinstance(output, Drop):
                if output.direction is Direction.OUTGOING:
                    self.dialling = False
                framer = self.on_line.pop(output.direction, None)
                if framer is not None:
                    self.read(framer, output.last_words)
        status = self.session.status()
        assert status.prefixes_received <= BGP_INBOUND_PREFIXES_COUNTED
        if self.session.state is not State.ESTABLISHED:
            assert status.prefixes_announced == 0

    def read(self, framer: Framer, data: bytes) -> None:
        """What we send is BGP: it can be cut, and a NOTIFICATION names what a registry knows."""
        framer.feed(data)
        while (frame := framer.next_frame()) is not None:
            self.heard.append((frame.type, frame.body))
            if frame.type is MessageType.NOTIFICATION:
                said = decode_notification(frame.body)
                ErrorCode(said.code)
                if said.subcode:
                    SUBCODES[said.code](said.subcode)
            elif frame.type is MessageType.UPDATE:
                update = decode_update(frame.body, four_octet_asn=True, internal=False)
                assert not update.treat_as_withdraw

    def connect(self) -> None:
        """The connection that was asked for is there."""
        if self.dialling:
            self.dialling = False
            self.on_line[Direction.OUTGOING] = Framer()
            self.session.connected(Direction.OUTGOING, ENDS, self.now)
            self.settle()

    def accept(self) -> None:
        """The peer opens a connection."""
        refusal = self.session.admit(self.now)
        self.settle()
        if refusal is None:
            self.on_line[Direction.INCOMING] = Framer()
            self.session.connected(Direction.INCOMING, ENDS, self.now)
            self.settle()

    def send(self, direction: Direction, data: bytes) -> None:
        """Bytes of the peer; what is wrong with them ends the connection with a NOTIFICATION."""
        self.session.receive(direction, data, self.now)
        self.settle()

    def lose(self, direction: Direction) -> None:
        """The connection, or the attempt at one, is gone."""
        if direction is Direction.OUTGOING:
            self.dialling = False
        self.on_line.pop(direction, None)
        self.session.lost(direction, "gone", self.now)
        self.settle()

    def take(self, direction: Direction) -> None:
        """The socket takes what there is."""
        data = self.session.take(direction, BGP_CHUNK_BYTES)
        assert len(data) <= BGP_CHUNK_BYTES
        if direction in self.on_line:
            self.read(self.on_line[direction], data)

    def wait(self, seconds: float) -> None:
        """Time passes, all at once."""
        self.now += seconds
        self.session.timers(self.now)
        self.settle()

    def recover(self) -> None:
        """After all that, a good peer is served."""
        if not self.started:
            self.session.start(self.now)
            self.settle()
        for direction in Direction:
            if direction in self.on_line or self.dialling:
                self.lose(direction)
        self.wait(60)
        self.lose(Direction.OUTGOING)
        self.accept()
        direction = Direction.INCOMING
        assert direction in self.on_line
        self.send(direction, good_open(self.asn))
        self.send(direction, KEEPALIVE)
        assert self.session.state is State.ESTABLISHED
        self.heard.clear()
        while self.session.wants_write(direction):
            self.take(direction)
        announced = [kind for kind, body in self.heard if kind is MessageType.UPDATE and body]
        assert announced


def run(data: bytes) -> None:
    """Lead a session through the history on the tape, then demand that a good peer is served."""
    tape = Tape(data)
    mode = tape.octet() if data[:1] >= b"\xf0" else 0
    world = World(passive=bool(mode & 1), internal=bool(mode & 2))
    while tape:
        take_step(world, tape)
    world.recover()


def take_step(world: World, tape: Tape) -> None:
    what = tape.pick(STEPS)
    directions = tuple(Direction)
    if what == "update":
        direction = tape.pick(directions)
        withdrawn, attributes, nlri = tape.piece(), tape.piece(), tape.piece()
        if len(withdrawn) + len(attributes) + len(nlri) < 4000:
            world.send(direction, assemble_update(withdrawn, attributes, nlri))
    elif what == "message":
        direction, kind = tape.pick(directions), tape.pick(_TYPES)
        world.send(direction, encode_frame(kind, tape.piece()))
    elif what == "raw":
        world.send(tape.pick(directions), tape.piece())
    elif what == "good open":
        world.send(tape.pick(directions), good_open(world.asn))
    elif what == "keepalive":
        world.send(tape.pick(directions), KEEPALIVE)
    elif what == "connect":
        world.connect()
    elif what == "accept":
        world.accept()
    elif what == "lost":
        world.lose(tape.pick(directions))
    elif what == "pass":
        world.wait(tape.pick(WAITS))
    elif what == "take":
        world.take(tape.pick(directions))
    elif what == "stop":
        world.session.stop(world.now, tape.pick(tuple(Cease)))
        world.dialling = world.started = False
        world.settle()
    elif what == "start":
        world.session.start(world.now)
        world.started = True
        world.settle()
    else:
        world.session.set_routes([ROUTE][: tape.octet() % 2] or [ROUTE])
