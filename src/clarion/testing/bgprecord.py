"""Recorded BGP sessions: what a session was told, what it did about it, and the same once more.

A recording is a text of JSON lines: a `Head`, a `Step` for everything the session was told, an
`End`. What the peer sent comes from a real router; what our session said stands beside it.
"""

from typing import Final

import msgspec

from clarion.proto.bgp.config import Direction, Endpoints, PeerConfig, SessionStatus
from clarion.proto.bgp.iana import Cease
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import Dial, Drop, Output, Session

CHUNK: Final = 1 << 16
LINE: Final = Direction.OUTGOING


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """With whom the session was, and with what it began.

    Attributes:
        router: Make and version of the peer.
        endpoints: Of every connection that is made.
        routes: What the peer should have.
    """

    router: str
    config: PeerConfig
    endpoints: Endpoints
    routes: list[Route]


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step", omit_defaults=True):
    """One call of the session and what came of it.

    Attributes:
        at: The time in seconds from the beginning.
        do: `start`, `connected`, `receive`, `lost`, `timers` or `stop`.
        data: What was received, in hexadecimal digits.
        why: Why the connection was lost, or the words of the farewell.
        asks: What the session asked its driver to do, and its changes of state.
        sends: What it wrote, in hexadecimal digits.
    """

    at: float
    do: str
    data: str = ""
    why: str = ""
    asks: tuple[str, ...] = ()
    sends: str = ""


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """How the session stood in the end."""

    status: SessionStatus


class Recording(msgspec.Struct, frozen=True):
    """A whole recording."""

    head: Head
    steps: tuple[Step, ...]
    end: End


class Player:
    """A session that is led step by step."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.session = Session(head.config, 0.0)
        self.session.set_routes(head.routes)
        self.outputs: list[Output] = []

    def play(self, step: Step) -> Step:
        """Do what a step says; returns it with what came of it this time.

        Raises:
            ValueError: there is no such call.
        """
        session, now = self.session, step.at
        if step.do == "start":
            session.start(now)
        elif step.do == "connected":
            session.connected(LINE, self.head.endpoints, now)
        elif step.do == "receive":
            session.receive(LINE, bytes.fromhex(step.data), now)
        elif step.do == "lost":
            session.lost(LINE, step.why, now)
        elif step.do == "timers":
            session.timers(now)
        elif step.do == "stop":
            session.stop(now, Cease.ADMINISTRATIVE_SHUTDOWN, step.why)
        else:
            raise ValueError(f"no call of a session: {step.do}")
        self.outputs = session.outputs()
        sends = b""
        while data := session.take(LINE, CHUNK):
            sends += data
        asks = tuple(map(_words, self.outputs))
        return msgspec.structs.replace(step, asks=asks, sends=sends.hex())

    def end(self) -> End:
        """How the session stands."""
        return End(status=self.session.status())


def replay(recording: Recording) -> Recording:
    """Lead a new session through the same steps."""
    player = Player(recording.head)
    steps = tuple(player.play(step) for step in recording.steps)
    return Recording(recording.head, steps, player.end())


def encode(recording: Recording) -> bytes:
    """The recording as text."""
    lines = (recording.head, *recording.steps, recording.end)
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def decode(text: bytes) -> Recording:
    """Read a recording.

    Raises:
        msgspec.DecodeError: it is none.
    """
    first, *between, last = text.splitlines()
    return Recording(
        msgspec.json.decode(first, type=Head),
        tuple(msgspec.json.decode(line, type=Step) for line in between),
        msgspec.json.decode(last, type=End),
    )


def _words(output: Output) -> str:
    if isinstance(output, Dial):
        return "dial"
    if isinstance(output, Drop):
        return f"drop {output.last_words.hex()}".strip()
    return f"{output.new}: {output.reason}"
