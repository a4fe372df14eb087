"""The speaker's hold on its pulse process: starts it, keeps its table right, hears its reports.

`PulseClient` owns the wanted table. Whatever happens to the process (killed, hung), a new one is
started and sent the whole table, and a `Restarted` report says so. One case is different: when
*this* process was stuck for longer than PULSE_ORPHAN_SECONDS, others may have taken the addresses
over. The table is then emptied, a `Lapsed` report says so, and nothing is announced until the
speaker, having looked who owns what, calls `set_table`.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import (
    PULSE_ADDRESSES_PER_MESSAGE,
    PULSE_HEARTBEAT_SECONDS,
    PULSE_NOTICES_MAX,
    PULSE_ORPHAN_SECONDS,
    PULSE_RESTART_SECONDS_MAX,
    PULSE_RESTART_SECONDS_MIN,
    PULSE_START_SECONDS,
    PULSE_STOP_SECONDS,
    PULSE_UNANSWERED_HEARTBEATS_MAX,
)
from clarion.edge.ipc import Channel, ChannelFullError
from clarion.proto.l2.responder import Counts
from clarion.proto.pulse.messages import (
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
    PulseExit,
    Resume,
    Silenced,
    Stop,
    ToPulse,
    WatchBfd,
    WatchedSession,
)

T = TypeVar("T")

Table = Mapping[Address, frozenset[str] | None]
"""Announced addresses, each with the names of its interfaces; None means every usable one."""


class Restarted(msgspec.Struct, frozen=True, tag="restarted"):
    """The pulse process ended unasked; a new one was started and sent the table.

    Attributes:
        cause: Why it ended, or why none can be started.
        running: Whether a new one was started; if not, another attempt follows.
    """

    cause: str
    running: bool


class Lapsed(msgspec.Struct, frozen=True, tag="lapsed"):
    """This process was stuck too long; the table was emptied. Look who owns what, then set it."""

    silent_seconds: float


Report = Interfaces | Notice | Restarted | Lapsed


class PulseClient:
    """Starts and feeds one pulse process; all methods are called from the event loop's thread.

    `on_report` is awaited for each report, one after the other. A list of interfaces that a newer
    one has replaced is passed over, and of other reports the last PULSE_NOTICES_MAX are kept, so a
    slow callback costs bounded memory and never the heartbeat.

    Attributes:
        on_bfd: Called with each report of BFD sessions at once; with None when the process that
            watched them is gone, of which nothing follows for the paths.
    """

    def __init__(self, on_report: Callable[[Report], Awaitable[None]], settings: Configure) -> None:
        self._on_report = on_report
        self._settings = settings
        self._table: dict[Address, frozenset[str] | None] = {}
        self._watched: tuple[WatchedSession, ...] | None = None
        self._held: dict[str, HandedOver] = {}
        """What a new process needs to go on with the BFD sessions of one that died."""
        self.on_bfd: Callable[[BfdReport | None], None] = _ignore
        self._generation = 0
        self._applied = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._interfaces: tuple[InterfaceState, ...] = ()
        self._earlier: dict[Address, Counts] = {}
        self._counts: dict[Address, Counts] = {}
        self._reports: deque[Report] = deque(maxlen=PULSE_NOTICES_MAX)
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._child: _Child | None = None
        self._last_beat: float | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        on_report: Callable[[Report], Awaitable[None]],
        settings: Configure | None = None,
    ) -> Self:
        """Start the process; it announces nothing until `set_table`.

        Raises:
            OSError: no process can be started.
        """
        client = cls(on_report, settings or Configure())
        client._spawn()
        client._tasks = [
            asyncio.create_task(client._supervise(), name="pulse-supervise"),
            asyncio.create_task(client._beat(), name="pulse-beat"),
            asyncio.create_task(client._deliver(), name="pulse-deliver"),
        ]
        return client

    @property
    def pid(self) -> int | None:
        """Process id of the pulse process, None between two."""
        return None if self._child is None else self._child.process.pid

    @property
    def interfaces(self) -> tuple[InterfaceState, ...]:
        """Every interface of this machine as last reported; empty before the first report."""
        return self._interfaces

    @property
    def table(self) -> Table:
        """What is wanted to be announced."""
        return self._table

    @property
    def counts(self) -> dict[Address, Counts]:
        """Counts of each announced address since its announcement, over all pulse processes."""
        merged = dict(self._earlier)
        for address, counts in self._counts.items():
            merged[address] = _add(merged.get(address), counts)
        return merged

    async def ready(self) -> None:
        """Wait until the process has reported the interfaces for the first time."""
        await self._ready.wait()

    def set_table(self, table: Table) -> None:
        """Announce exactly these addresses from now on; only the difference is sent.

        An address that is new, or new on some interface, is announced there at once and again for
        some seconds. One that is gone is answered for no more.
        """
        announce = {
            address: names
            for address, names in table.items()
            if address not in self._table or self._table[address] != names
        }
        self.change_table(announce, [a for a in self._table if a not in table])

    def change_table(self, announce: Table, withdraw: Collection[Address] = ()) -> None:
        """Change only these addresses: `set_table` at a cost that does not grow with the rest."""
        for address in withdraw:
            self._table.pop(address, None)
            self._earlier.pop(address, None)
            self._counts.pop(address, None)
        self._table.update(announce)
        if announce or withdraw:
            self._send_change(list(announce), list(withdraw))

    def watch_bfd(self, sessions: tuple[WatchedSession, ...]) -> None:
        """Have exactly these BFD sessions from now on; those that stay do not notice."""
        if sessions != self._watched:
            self._watched = sessions
            names = {row.name for row in sessions}
            self._held = {name: row for name, row in self._held.items() if name in names}
            self._send(WatchBfd(sessions))

    async def settled(self) -> None:
        """Wait until the process has put the last `set_table` in force."""
        if self._applied < self._generation:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((self._generation, future))
            await future

    def configure(self, settings: Configure) -> None:
        """Change the settings."""
        if settings != self._settings:
            self._settings = settings
            self._send(settings)

    async def stop(self, *, keep_paths: bool = False) -> None:
        """Answer for nothing any more and end the process.

        Args:
            keep_paths: This program is started again soon. The process ends when the BFD sessions
                that are to outlive the speaker have been taken over, or their time is up.
        """
        self._stopping.set()
        self._send(Stop(keep_paths=keep_paths))
        supervise, *others = self._tasks
        ends: list[asyncio.Task[Any]] = [supervise]
        if keep_paths and self._child is not None:
            ends.append(asyncio.create_task(self._child.left.wait()))
        await asyncio.wait(ends, timeout=PULSE_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if keep_paths and self._child is not None and self._child.left.is_set():
            others.append(supervise)  # it goes on alone, for longer than this program
        elif self._child is not None:
            self._child.process.kill()
        for task in (*ends[1:], *others):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, future in self._waiters:
            future.cancel()

    def _spawn(self) -> None:
        """Start a process and send it everything.

        The process leads its own group: what a terminal or an operator sends to the speaker's
        group must not silence the answers before the speaker itself has decided to.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "clarion.daemons.pulse", "--fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        self._child = _Child(process, ours, self._receive)
        self._send(self._settings)
        if self._watched is not None:
            self._send(Resume(tuple(self._held.values())))
            self._send(WatchBfd(self._watched))
        self._send_change(list(self._table), [])

    def _send(self, message: ToPulse) -> None:
        if self._child is not None:
            try:
                self._child.channel.send(message)
            except ChannelFullError as error:
                self._child.give_up(error.message)

    def _send_change(self, announce: Sequence[Address], withdraw: Sequence[Address]) -> None:
        size = PULSE_ADDRESSES_PER_MESSAGE
        self._generation += 1
        for part in _parts(withdraw, size):
            packed = tuple(address.packed for address in part)
            self._send(ChangeTable(generation=0, withdraw=packed))
        for part in _parts(announce, size):
            entries = tuple(Entry(address.packed, self._table[address]) for address in part)
            self._send(ChangeTable(generation=0, announce=entries))
        self._send(ChangeTable(generation=self._generation))

    def _receive(self, message: FromPulse) -> None:
        match message:
            case Interfaces(interfaces=interfaces):
                self._interfaces = interfaces
                self._ready.set()
                self._reports = deque(
                    (r for r in self._reports if not isinstance(r, Interfaces)), PULSE_NOTICES_MAX
                )
                self._report(message)
            case Notice():
                self._report(message)
            case BfdReport(held=held):
                self._held |= {row.wanted.name: row for row in held}
                self.on_bfd(message)
            case CountsReport(changed=changed):
                for row in changed:
                    address = Address.from_packed(row.address)
                    if address in self._table:
                        self._counts[address] = row.counts
            case Applied(generation=generation):
                self._applied = max(self._applied, generation)
                for wanted, future in self._waiters:
                    if wanted <= generation and not future.done():
                        future.set_result(None)
                self._waiters = [pair for pair in self._waiters if not pair[1].done()]
            case Silenced():
                self._lapse(asyncio.get_running_loop().time() - (self._last_beat or 0.0))
            case Echo():
                pass  # that something came is what counts, and _Child has noted it

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        self._news.set()

    async def _deliver(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._reports:
                report = self._reports.popleft()
                try:
                    await self._on_report(report)
                except Exception as error:  # noqa: BLE001 - a fault of the listener must not deafen it
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": f"report of the pulse process: {report}", "exception": error}
                    )

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        sequence = 0
        self._last_beat = loop.time()
        while True:
            silent = loop.time() - self._last_beat
            self._last_beat = loop.time()
            if silent > PULSE_ORPHAN_SECONDS:
                self._lapse(silent)
            sequence += 1
            self._send(Heartbeat(sequence))
            if self._child is not None:
                self._child.beat(loop.time())
            await asyncio.sleep(PULSE_HEARTBEAT_SECONDS)

    def _lapse(self, silent: float) -> None:
        if self._table:
            self.set_table({})
            self._report(Lapsed(silent))

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        delay = PULSE_RESTART_SECONDS_MIN
        while True:
            child, since = self._child, loop.time()
            if child is not None:
                code = await _exit_code(child.process)
                child.channel.close()
                self._child = None
                self._keep_counts()
                self.on_bfd(None)
                if self._stopping.is_set():
                    return
                if code == PulseExit.ORPHANED:
                    self._lapse(loop.time() - (self._last_beat or since))
                cause = child.cause or _exit_text(code)
                delay = delay if loop.time() - since < 60 else PULSE_RESTART_SECONDS_MIN
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
                    return
            delay = min(delay * 2, PULSE_RESTART_SECONDS_MAX)
            try:
                self._spawn()
            except OSError as error:
                cause = f"cannot be started: {error.strerror}"
            self._report(Restarted(cause, running=self._child is not None))

    def _keep_counts(self) -> None:
        self._earlier, self._counts = self.counts, {}


def _ignore(_report: BfdReport | None) -> None:
    """Nobody asked for BFD sessions."""


class _Child:
    """One pulse process and the channel to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        receive: Callable[[FromPulse], None],
    ) -> None:
        self.process = process
        self.cause = ""
        self.channel: Channel[FromPulse, ToPulse] = Channel(
            sock, FromPulse, self._heard, self._closed
        )
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._unanswered: int | None = None
        self.left = asyncio.Event()
        """It has closed the pipe: it has heard that it is to go on alone, or it ends."""

    def give_up(self, cause: str) -> None:
        """End the process for a fault of its own; its supervisor starts another."""
        self.cause = self.cause or cause
        self.process.kill()

    def beat(self, now: float) -> None:
        """Count a heartbeat; a process that answers none of many is ended."""
        if self._unanswered is None:
            if now - self._started > PULSE_START_SECONDS:
                self.give_up(f"said nothing within {PULSE_START_SECONDS:g} s of its start")
            return
        self._unanswered += 1
        if self._unanswered > PULSE_UNANSWERED_HEARTBEATS_MAX:
            self.give_up(f"answered none of {PULSE_UNANSWERED_HEARTBEATS_MAX} heartbeats")

    def _heard(self, message: FromPulse) -> None:
        self._unanswered = 0
        self._receive(message)

    def _closed(self, cause: str) -> None:
        """Give an ending process the time to end with its own exit code."""
        self.left.set()
        self._loop.call_later(PULSE_STOP_SECONDS, self._still_there, cause)

    def _still_there(self, cause: str) -> None:
        if self.process.returncode is None:
            self.give_up(f"its pipe: {cause}")


async def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process without a thread and without a signal handler."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return process.wait()


def _exit_text(code: int) -> str:
    if code < 0:
        return f"killed by signal {-code}"
    if code == PulseExit.ORPHANED:
        return "ended because the speaker was silent too long"
    return f"ended with exit code {code}"


def _add(left: Counts | None, right: Counts) -> Counts:
    if left is None:
        return right
    return Counts(
        requests=left.requests + right.requests,
        responses=left.responses + right.responses,
        gratuitous=left.gratuitous + right.gratuitous,
        conflicts=left.conflicts + right.conflicts,
    )


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
