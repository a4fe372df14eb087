"""BFD in the pulse process: sockets and timers around the sessions of `proto.bfd`.

Everything happens in callbacks of the loop. Each session has one timer, set to an absolute time.
Before a session is declared down by time, what waits in the sockets is read: if this process was
late itself, the packets that prove the path are there.
"""

import asyncio
import errno
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import (
    BFD_LINGER_SECONDS,
    BFD_RECEIVE_BATCH_PACKETS,
    PULSE_COUNTS_SECONDS,
    PULSE_SOCKET_RETRY_SECONDS,
)
from clarion.daemons.pulse_parent import Parent
from clarion.edge.bfd import Listener, Sender
from clarion.edge.bfd_echo import EchoSocket, forwards
from clarion.edge.relay import Relay, take_over
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.demux import Arrival, Demux, Endpoint, Refusal
from clarion.proto.bfd.echo import echo_contents, echo_datagram
from clarion.proto.bfd.packet import BfdDecodeError, decode
from clarion.proto.bfd.session import BfdSession, Memory
from clarion.proto.l2.interfaces import Interface
from clarion.proto.pulse.messages import (
    BfdReport,
    HandedOver,
    NoticeCode,
    WatchBfd,
    WatchedSession,
)

RELAY_NAME = "clarion-bfd"
"""Under which an orphaned process is found by its successor."""

WAITS = "it begins when the BGP session is established for the first time"

Hearing = tuple[int, bool, str]
"""IP version, multihop, VRF: what one listener is for."""


_HANDED_OVER: Final = msgspec.msgpack.Decoder(tuple[HandedOver, ...])


class Watch:
    """One session, its sockets, and what of it was told."""

    __slots__ = (
        "arrival",
        "echo",
        "endpoint",
        "ends_at",
        "name",
        "port",
        "sender",
        "session",
        "started",
        "timer",
        "told",
        "trouble",
        "wanted",
    )

    def __init__(self, wanted: WatchedSession, session: BfdSession, port: int = 0) -> None:
        """Args: port: From which the session sent in another process, 0 for a new one."""
        self.name = wanted.name
        self.wanted = wanted
        self.endpoint = _endpoint(wanted)
        self.session = session
        self.port = port
        self.sender: Sender | None = None
        self.started = False
        """It had its sockets once; time counts for it from then on."""
        self.echo: EchoSocket | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.arrival: Arrival | None = None
        self.told: BfdStatus | None = None
        self.trouble = ""
        self.ends_at: float | None = None
        """When a session that is no longer wanted has said so for long enough."""

    @property
    def source_port(self) -> int:
        """From which it sends, or is to send when it can again; 0 for any."""
        return self.port if self.sender is None else self.sender.port

    @property
    def hearing(self) -> Hearing:
        """The listener that it needs."""
        endpoint = self.endpoint
        return endpoint.remote.version, endpoint.multihop, endpoint.vrf

    def status(self) -> BfdStatus:
        """How it stands."""
        endpoint = self.endpoint
        where = BfdStatus(
            remote=str(endpoint.remote),
            local="" if endpoint.local is None else str(endpoint.local),
            interface=endpoint.interface,
            vrf=endpoint.vrf,
            multihop=endpoint.multihop,
            trouble=self.trouble,
        )
        return self.session.status(where)


class Bfd:
    """The part that watches paths.

    Args:
        parent: Who wants them watched.
        left: Called when no session is left of those that outlive it.
    """

    def __init__(self, parent: Parent, left: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._parent = parent
        self._left = left
        self._random = random.SystemRandom()
        self._jitter = random.Random()  # noqa: S311 - spreads packets in time, guards no secret
        self._demux = Demux()
        self._watches: dict[str, Watch] = {}
        self._leaving: dict[str, Watch] = {}
        self._owners: dict[int, Watch] = {}
        """All of them by their discriminators."""
        self._listeners: dict[Hearing, Listener] = {}
        self._names: dict[int, str] = {}
        self._notified: set[str] = set()
        self._report_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._outliving: asyncio.TimerHandle | None = None
        self._wanted: WatchBfd | None = None
        self._relay = Relay(RELAY_NAME, self._hand_over)
        self._relief: asyncio.Task[None] | None = self._loop.create_task(self._relieve())

    # A predecessor and a successor.

    async def _relieve(self) -> None:
        """Go on with the sessions of a process whose speaker is dead, so that no peer notices."""
        self.resume(_handed_over(await take_over(RELAY_NAME)))
        await self._relay.offer()
        self._relief = None
        if self._wanted is None:
            self._open()
        else:
            self.watch(self._wanted)

    def resume(self, rows: tuple[HandedOver, ...]) -> None:
        """Go on with sessions of another process."""
        for row in rows:
            waiting = self._watches.pop(row.wanted.name, None)
            if waiting is not None:  # for the very port that is free now
                self._end(waiting)
            row.memory.heard_at = self._loop.time()  # nobody listened: the silence proves nothing
            watch = Watch(row.wanted, self._session(row.wanted.config, row.memory), row.port)
            watch.started = True
            self._add(watch)

    def _hand_over(self) -> bytes:
        """Leave all sessions to another process; nothing if the speaker of this one lives."""
        if not self._parent.gone:
            return b""
        rows = _held(self._watches.values())
        self.close()
        if self._outliving is not None:
            self._loop.call_soon(self._left)
        return msgspec.msgpack.encode(rows)

    def outlive(self) -> None:
        """The speaker is gone: watch on where that is asked for, for so long (decision 0011)."""
        now = self._loop.time()
        for name, watch in tuple(self._watches.items()):
            if watch.wanted.outlive <= 0:
                self._leave(name)
        longest = max((w.wanted.outlive for w in self._watches.values()), default=0.0)
        if not longest:
            self._left()
        elif self._outliving is None:
            self._outliving = self._loop.call_at(now + longest, self._outlived)

    def _outlived(self) -> None:
        self.farewell()
        self._left()

    # What the parent wants.

    def watch(self, message: WatchBfd) -> None:
        """Make these the sessions; those that stay do not notice."""
        self._wanted = message
        if self._relief is not None:
            return  # first it must be known which of them go on
        wanted = {row.name: row for row in message.sessions}
        for name in self._watches.keys() - wanted.keys():
            self._leave(name)
        for name, row in wanted.items():
            known = self._watches.get(name)
            if known is not None and known.endpoint != _endpoint(row):
                self._leave(name)
                known = None
            if known is None:
                memory = Memory(discriminator=self._discriminator())
                self._add(Watch(row, self._session(row.config, memory)))
            elif known.wanted != row:
                known.wanted = row
                known.session.configure(row.config, self._loop.time())
                self._promise_echo(known)
                self._after(known)
        self._open()

    def _session(self, config: BfdConfig, memory: Memory) -> BfdSession:
        return BfdSession(config, memory, self._loop.time(), self._random.getrandbits(64))

    def _discriminator(self) -> int:
        """RFC 5880 §6.8.1, bfd.LocalDiscr: unique here, not zero, and hard to guess."""
        while True:
            drawn = self._random.getrandbits(32)
            if drawn and drawn not in self._demux:
                return drawn

    def _add(self, watch: Watch) -> None:
        replaced = self._leaving.pop(watch.name, None)
        if replaced is not None:
            self._end(replaced)
        self._watches[watch.name] = watch
        self._owners[watch.session.memory.discriminator] = watch
        self._demux.add(watch.endpoint, watch.session)

    def _leave(self, name: str) -> None:
        """End a session so that the other side does not take it for a failure."""
        watch = self._watches.pop(name)
        now = self._loop.time()
        # RFC 5880 §6.8.16: said for at least a Detection Time.
        watch.ends_at = now + BFD_LINGER_SECONDS
        self._leaving[name] = watch
        watch.session.disable(now)
        self._run(watch)

    def _end(self, watch: Watch) -> None:
        """Let go of a session's sockets and timer without another word."""
        self._demux.remove(watch.session)
        del self._owners[watch.session.memory.discriminator]
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.sender is not None:
            watch.sender.close()
        self._close_echo(watch)

    def farewell(self) -> None:
        """Say that nobody watches any more, which is no failure of a path (RFC 5882 §4.2)."""
        now = self._loop.time()
        for watch in self._watches.values():
            watch.session.disable(now)
            self._send(watch, watch.session.tick(now, self._jitter.random()))

    def close(self) -> None:
        """Let go of everything."""
        if self._relief is not None:
            self._relief.cancel()
        self._relay.close()
        for watch in (*self._watches.values(), *self._leaving.values()):
            self._end(watch)
        self._watches.clear()
        self._leaving.clear()
        for hearing in tuple(self._listeners):
            self._close_listener(hearing)
        for timer in (self._report_timer, self._retry_timer, self._outliving):
            if timer is not None:
                timer.cancel()

    # Sockets.

    def set_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        """What the kernel says now."""
        before, self._names = self._names, {item.index: item.name for item in interfaces}
        # A socket stays bound to an interface that is gone, also when another one has its name.
        gone = {name for index, name in before.items() if self._names.get(index) != name}
        for hearing in [hearing for hearing in self._listeners if hearing[2] in gone]:
            self._close_listener(hearing)
        for watch in self._watches.values():
            if watch.sender is not None and watch.endpoint.device in gone:
                watch.port = watch.source_port
                watch.sender.close()
                watch.sender = None
            self._promise_echo(watch)
        self._open()

    def _open(self) -> None:
        """Open what is missing, close what nobody needs, and start the sessions that can."""
        everybody = (*self._watches.values(), *self._leaving.values())
        needed = {watch.hearing for watch in everybody}
        for hearing in self._listeners.keys() - needed:
            self._close_listener(hearing)
        failed = False
        for watch in self._watches.values():
            before = watch.trouble
            if not (watch.wanted.begin or watch.started):
                watch.trouble = WAITS
            elif watch.sender is None:
                watch.sender, watch.trouble = self._try(watch)
                if watch.sender is None:
                    failed = True
                else:
                    watch.started = True
                    self._promise_echo(watch)
                    self._run(watch)
            if watch.told is None or watch.trouble != before:
                self._tell([watch])
        if failed and self._retry_timer is None:
            self._retry_timer = self._loop.call_later(PULSE_SOCKET_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._retry_timer = None
        if self._relief is None:  # whoever holds the port may be about to leave it to us
            self._relief = self._loop.create_task(self._relieve())
        self._open()

    def _try(self, watch: Watch) -> tuple[Sender | None, str]:
        """Open a session's sockets: the one it sends from, or what prevents it, in words."""
        try:
            if watch.hearing not in self._listeners:
                self._listen(watch.hearing)
            sender = Sender(watch.endpoint, watch.port)
        except OSError as error:
            text = _why(error, watch.endpoint)
            if text not in self._notified:
                self._notified.add(text)
                self._parent.notify(
                    NoticeCode.BFD_FAILED,
                    f"BFD with {watch.endpoint.remote}: {text}; it is tried again",
                    watch.endpoint.interface or None,
                    str(watch.endpoint.remote),
                )
            return None, text
        self._notified.clear()
        return sender, ""

    def _listen(self, hearing: Hearing) -> None:
        version, multihop, vrf = hearing
        beside = self._listeners.values()
        listener = Listener(version, multihop=multihop, vrf=vrf, beside=beside)
        self._listeners[hearing] = listener
        self._loop.add_reader(listener, self._readable, listener)

    def _close_listener(self, hearing: Hearing) -> None:
        listener = self._listeners.pop(hearing)
        self._loop.remove_reader(listener)
        listener.close()

    # Packets and time.

    def _readable(self, listener: Listener) -> None:
        for _ in range(BFD_RECEIVE_BATCH_PACKETS):
            heard = listener.receive(self._names)
            if heard is None:
                return
            self._take(*heard)

    def _take(self, data: bytes, arrival: Arrival) -> None:
        try:
            packet = decode(data)
        except BfdDecodeError:
            return  # RFC 5880 §6.8.6: discarded
        session = self._demux.find(packet, arrival)
        if isinstance(session, Refusal):
            return
        watch = self._owners[session.memory.discriminator]
        watch.arrival = arrival
        now = self._loop.time()
        self._send(watch, session.receive(packet, now, self._jitter.random()))
        self._after(watch)

    def _wake(self, watch: Watch) -> None:
        """A session's timer: the sockets first, then what time demands."""
        watch.timer = None
        if watch.ends_at is not None and self._loop.time() >= watch.ends_at:
            self._leaving.pop(watch.name, None)
            self._end(watch)
            self._open()
            return
        if watch.session.overdue(self._loop.time()):
            for listener in self._listeners.values():
                self._readable(listener)
            if watch.echo is not None:
                self._echoes(watch, watch.echo)
        self._run(watch)

    def _run(self, watch: Watch) -> None:
        now, spread = self._loop.time(), self._jitter.random()
        self._send(watch, watch.session.tick(now, spread))
        if watch.echo is not None and watch.echo.knows_the_way and watch.arrival is not None:
            sequence = watch.session.tick_echo(now, spread)
            if sequence is not None:
                self._send_echo(watch, watch.echo, watch.arrival.destination, sequence)
        self._after(watch)

    def _send(self, watch: Watch, packets: list[bytes]) -> None:
        if watch.sender is None:
            return
        try:
            for packet in packets:
                watch.sender.send(packet)
        except OSError as error:
            watch.trouble = f"sending: {error.strerror}"
        else:
            if packets:
                watch.trouble = ""

    def _after(self, watch: Watch) -> None:
        """Tell of a new state at once, keep echo in step, and wake up for what is next."""
        told, state = watch.told, watch.session.memory.state
        if watch.ends_at is None and (told is None or told.state is not state):
            self._tell([watch])
        self._keep_echo(watch)
        if self._report_timer is None and watch.ends_at is None:
            self._report_timer = self._loop.call_later(PULSE_COUNTS_SECONDS, self._report)
        deadline = watch.session.next_deadline if watch.started else None
        if watch.ends_at is not None:
            deadline = watch.ends_at if deadline is None else min(deadline, watch.ends_at)
        timer = watch.timer
        if deadline is None or (timer is not None and timer.when() <= deadline):
            return  # a timer that fires early finds nothing due and is set again
        if timer is not None:
            timer.cancel()
        watch.timer = self._loop.call_at(deadline, self._wake, watch)

    # Echo.

    def _promise_echo(self, watch: Watch) -> None:
        """Offer to send echo packets back where the kernel does it; it is single-hop only."""
        endpoint = watch.endpoint
        names = [endpoint.interface] if endpoint.interface else ["all"]
        if watch.arrival is not None:
            names = [watch.arrival.interface]
        able = not endpoint.multihop and all(forwards(n, endpoint.remote.version) for n in names)
        watch.session.loop_back(watch.session.config.echo_interval if able else 0.0)

    def _keep_echo(self, watch: Watch) -> None:
        """Have a socket while echo packets are to be sent."""
        wanted = watch.session.echo.deadline is not None and not watch.endpoint.multihop
        if not wanted:
            self._close_echo(watch)
        elif watch.echo is None and watch.arrival is not None:
            try:
                watch.echo = EchoSocket(watch.arrival.interface, watch.endpoint.remote)
            except OSError as error:
                watch.trouble = f"echo: {error.strerror}"
            else:
                self._loop.add_reader(watch.echo, self._echo_readable, watch, watch.echo)

    def _close_echo(self, watch: Watch) -> None:
        if watch.echo is not None:
            self._loop.remove_reader(watch.echo)
            watch.echo.close()
            watch.echo = None

    def _send_echo(self, watch: Watch, echo: EchoSocket, address: Address, sequence: int) -> None:
        session = watch.session
        mine, secret = session.memory.discriminator, session.echo.secret
        try:
            echo.send(echo_datagram(address, mine, sequence, secret))
        except OSError as error:
            watch.trouble = f"echo: {error.strerror}"

    def _echo_readable(self, watch: Watch, echo: EchoSocket) -> None:
        self._echoes(watch, echo)
        self._after(watch)

    def _echoes(self, watch: Watch, echo: EchoSocket) -> None:
        for _ in range(BFD_RECEIVE_BATCH_PACKETS):
            datagram = echo.receive()
            if datagram is None:
                return
            found = echo_contents(datagram)
            if found is not None and found[0] == watch.session.memory.discriminator:
                watch.session.receive_echo(found[1], found[2], self._loop.time())

    # Reports.

    def _tell(self, watches: list[Watch]) -> None:
        for watch in watches:
            watch.told = watch.status()
        told = {watch.name: watch.told for watch in watches if watch.told is not None}
        self._parent.send(BfdReport(told, _held(watches)))

    def _report(self) -> None:
        """Once a second, what changed; while the parent does not read, only states are told."""
        self._report_timer = None
        if not self._parent.unsent:
            news = [watch for watch in self._watches.values() if watch.status() != watch.told]
            if news:
                self._tell(news)
        if self._watches:
            self._report_timer = self._loop.call_later(PULSE_COUNTS_SECONDS, self._report)


def _held(watches: Iterable[Watch]) -> tuple[HandedOver, ...]:
    """What another process needs to go on with those that have begun."""
    return tuple(
        HandedOver(wanted=watch.wanted, memory=watch.session.memory, port=watch.source_port)
        for watch in watches
        if watch.started
    )


def _handed_over(data: bytes) -> tuple[HandedOver, ...]:
    """What a predecessor left; nothing that can be read if it was of another version."""
    try:
        return _HANDED_OVER.decode(data) if data else ()
    except msgspec.DecodeError:
        return ()


def _endpoint(row: WatchedSession) -> Endpoint:
    return Endpoint(
        remote=Address.from_packed(row.remote),
        local=Address.from_packed(row.local) if row.local else None,
        interface=row.interface,
        vrf=row.vrf,
        multihop=row.multihop,
    )


_WORDS: Mapping[int, str] = {
    errno.EADDRNOTAVAIL: "this host does not have the address {local}",
    errno.ENODEV: "there is no interface {device}",
    errno.EAFNOSUPPORT: "this host has no IPv{version}",
    errno.EADDRINUSE: "UDP port {port} belongs to another program on this host; stop that one "
    "(FRR's bfdd, another speaker)",
}


def _why(error: OSError, endpoint: Endpoint) -> str:
    """What prevents a session, in words."""
    text = _WORDS.get(error.errno or 0)
    if text is None:
        return error.strerror or str(error)
    return text.format(
        local=endpoint.local,
        device=endpoint.device,
        version=endpoint.remote.version,
        port=endpoint.port,
    )
