"""Messages over a socketpair: framing, bounds, and ends of conversations."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from clarion.base.limits import IPC_MESSAGE_BYTES_MAX, IPC_UNSENT_BYTES_MAX
from clarion.edge.ipc import Channel, ChannelFullError
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.packet import State
from clarion.proto.bfd.session import Memory
from clarion.proto.l2.responder import Counts
from clarion.proto.pulse.messages import (
    AddressCounts,
    Applied,
    BfdReport,
    ChangeTable,
    Configure,
    CountsReport,
    Echo,
    Entry,
    FromPulse,
    HandedOver,
    Heartbeat,
    Interfaces,
    InterfaceState,
    Notice,
    NoticeCode,
    Resume,
    Silenced,
    Stop,
    ToPulse,
    WatchBfd,
    WatchedSession,
)

WATCHED = WatchedSession(name="a", remote=b"\xc0\0\2\1", config=BfdConfig(passive=True))
HELD = HandedOver(wanted=WATCHED, memory=Memory(discriminator=2**32 - 1, heard_at=1.5), port=49152)
TO_PULSE: list[ToPulse] = [
    Configure(excluded=("^veth",), refresh_seconds=1.5, frames_per_second=10.0),
    ChangeTable(
        7, announce=(Entry(b"\xcb\0\x71\x0a", frozenset({"eth0"})),), withdraw=(b"\1" * 16,)
    ),
    ChangeTable(8, announce=(Entry(b"\xff" * 16, None),)),
    Resume((HELD,)),
    WatchBfd((WATCHED,)),
    Heartbeat(2**40),
    Stop(keep_paths=True),
]
FROM_PULSE: list[FromPulse] = [
    Interfaces((InterfaceState(2, "eth0", b"\2\0\0\0\0\1", True, True, None, None),)),
    CountsReport((AddressCounts(b"\xcb\0\x71\x0a", Counts(1, 2, 3, 4)),)),
    Notice(NoticeCode.CONFLICT, "text", None, "203.0.113.10"),
    BfdReport({"a": BfdStatus(remote="192.0.2.1", state=State.UP, since=1.5)}, (HELD,)),
    Echo(3),
    Applied(9),
    Silenced(),
]


class End:
    """One end with what it heard."""

    def __init__(self, sock: socket.socket, message_type: object) -> None:
        self.heard: list[object] = []
        self.closed: list[str] = []
        self.news = asyncio.Event()
        self.channel: Channel[object, msgspec.Struct] = Channel(
            sock, message_type, self.on_message, self.on_closed
        )

    def on_message(self, message: object) -> None:
        self.heard.append(message)
        self.news.set()

    def on_closed(self, cause: str) -> None:
        self.closed.append(cause)
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.heard) + len(self.closed) < count:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    left, right = socket.socketpair()
    ends = End(left, FromPulse), End(right, ToPulse)
    try:
        yield ends
    finally:
        for end in ends:
            end.channel.close()


@asynccontextmanager
async def raw(message_type: object = FromPulse) -> AsyncIterator[tuple[End, socket.socket]]:
    left, right = socket.socketpair()
    end = End(left, message_type)
    with right:
        yield end, right
    end.channel.close()


def test_every_message_arrives_as_it_was() -> None:
    async def scenario() -> None:
        async with pair() as (main, pulse):
            for message in TO_PULSE:
                main.channel.send(message)
            for report in FROM_PULSE:
                pulse.channel.send(report)
            await pulse.until(len(TO_PULSE))
            await main.until(len(FROM_PULSE))
            assert pulse.heard == TO_PULSE
            assert main.heard == FROM_PULSE

    asyncio.run(scenario())
    assert {type(m) for m in TO_PULSE} == set(ToPulse.__args__)
    assert {type(m) for m in FROM_PULSE} == set(FromPulse.__args__)


def test_pieces_of_any_size_make_the_same_messages() -> None:
    async def scenario() -> None:
        async with raw() as (end, sock):
            body = msgspec.msgpack.encode(Echo(5))
            for byte in (len(body).to_bytes(4, "big") + body) * 3:
                sock.send(bytes([byte]))
                await asyncio.sleep(0)
            await end.until(3)
            assert end.heard == [Echo(5)] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((IPC_MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), "bytes"),
        (b"\0\0\0\1\xc1", "none"),
        (b"\0\0\0\2\x81\xa0", "none"),
        (b"\0\0\0\x08\x82\xa4type\xa1\x82", "none"),  # a text that is not UTF-8
        (b"\0\0\0\0", "none"),
    ],
)
def test_what_is_no_message_ends_the_conversation(data: bytes, words: str) -> None:
    async def scenario() -> None:
        async with raw() as (end, sock):
            sock.send(data)
            await end.until(1)
            assert len(end.closed) == 1
            assert words in end.closed[0]
            end.channel.send(Heartbeat(1))

    asyncio.run(scenario())


def test_the_end_is_told_once() -> None:
    async def scenario() -> None:
        async with raw() as (end, sock):
            sock.close()
            end.channel.send(Heartbeat(1))
            end.channel.send(Heartbeat(2))
            await end.until(1)
            await asyncio.sleep(0)
            assert len(end.closed) == 1

    asyncio.run(scenario())


def test_a_listener_that_closes_gets_nothing_more() -> None:
    async def scenario() -> None:
        async with pair() as (main, pulse):

            def close(message: object) -> None:
                pulse.heard.append(message)
                pulse.channel.close()
                pulse.news.set()

            pulse.channel._on_message = close
            main.channel.send(Heartbeat(1))
            main.channel.send(Heartbeat(2))
            await pulse.until(1)
            await main.until(1)
            assert pulse.heard == [Heartbeat(1)]
            assert len(main.closed) == 1

    asyncio.run(scenario())


def test_what_the_other_side_does_not_read_is_bounded() -> None:
    async def scenario() -> None:
        async with raw() as (end, sock):
            entries = tuple(Entry(bytes(16), None) for _ in range(4096))
            message = ChangeTable(1, announce=entries)
            sent = 0
            while end.channel.unsent + IPC_MESSAGE_BYTES_MAX <= IPC_UNSENT_BYTES_MAX:
                end.channel.send(message)
                sent += 1
            huge = Notice(NoticeCode.CONFLICT, "x" * (IPC_MESSAGE_BYTES_MAX - 100))
            with pytest.raises(ChannelFullError):
                end.channel.send(huge)
            assert end.channel.unsent <= IPC_UNSENT_BYTES_MAX
            body = msgspec.msgpack.encode(message)
            total = sent * (len(body) + 4)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            got = 0
            async with asyncio.timeout(20):
                while got < total:
                    got += len(await loop.sock_recv(sock, 1 << 20))
            assert got == total, "what was accepted arrives whole"

    asyncio.run(scenario())


def test_a_message_beyond_the_bound_is_refused() -> None:
    async def scenario() -> None:
        async with raw() as (end, _):
            with pytest.raises(ChannelFullError):
                end.channel.send(Notice(NoticeCode.CONFLICT, "x" * IPC_MESSAGE_BYTES_MAX))

    asyncio.run(scenario())
