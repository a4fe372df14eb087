"""Running tasks: a crash is never silent, a stop is always awaited, a stalled loop is measured."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from enum import Enum
from types import TracebackType
from typing import Self

import msgspec

from clarion.base.errors import ClarionError
from clarion.base.ports import Clock, Entropy
from clarion.edge.logs import Log
from clarion.proto.kube.backoff import Backoff, BackoffPolicy

Main = Callable[[], Awaitable[None]]

RESTART_POLICY = BackoffPolicy(base=0.5, cap=30.0)


class OnExit(Enum):
    """What the end of a task means."""

    FAIL = "fail"  # it should not have ended: the program ends
    RESTART = "restart"  # it is started again, with growing delays
    DONE = "done"  # it may end; only an exception ends the program


class TaskCrashedError(ClarionError):
    """A task that the program cannot do without has ended."""


class Supervisor:
    """Owns the tasks of a program.

    Use as `async with`: at the end all tasks are cancelled, the last started first, and awaited.
    `wait` returns when `stop` was called or raises when a task that must run has ended.
    """

    def __init__(self, clock: Clock, entropy: Entropy, log: Log | None = None) -> None:
        self._clock = clock
        self._entropy = entropy
        self._log = log or Log("tasks")
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = asyncio.Event()
        self._failure: TaskCrashedError | None = None

    def start(self, name: str, main: Main, on_exit: OnExit = OnExit.FAIL) -> asyncio.Task[None]:
        """Start a task; `main` is called anew for each restart."""
        task = asyncio.create_task(self._run(name, main, on_exit), name=name)
        self._tasks[task] = name
        task.add_done_callback(self._forget)
        return task

    def stop(self) -> None:
        """Let `wait` return."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for or a task crashed."""
        return self._stopping.is_set()

    async def wait(self) -> None:
        """Until `stop`.

        Raises:
            TaskCrashedError: a task ended that must not.
        """
        await self._stopping.wait()
        if self._failure is not None:
            raise self._failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for task in reversed(list(self._tasks)):
            task.cancel()
            await asyncio.wait([task])

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)

    async def _run(self, name: str, main: Main, on_exit: OnExit) -> None:
        backoff = Backoff(RESTART_POLICY)
        while True:
            started = self._clock.monotonic()
            error: Exception | None = None
            try:
                await main()
            except Exception as caught:  # noqa: BLE001 - whatever ends a task is told and judged here
                error = caught
            if error is None and on_exit is OnExit.DONE:
                return
            self._log.error("task ended", trace=error, task=name, error=str(error or "returned"))
            if on_exit is not OnExit.RESTART:
                self._failure = self._failure or TaskCrashedError(f"{name} ended: {error or ''}")
                self._stopping.set()
                return
            if self._clock.monotonic() - started > RESTART_POLICY.cap:
                backoff.succeed()
            await asyncio.sleep(backoff.fail(self._entropy.random()))


class StopSignals:
    """SIGTERM and SIGINT as an awaitable; a second signal ends the program without ceremony."""

    def __init__(self) -> None:
        self._received = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever started us with a signal ignored stops us by other means (signal(7)).
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._received.is_set():
            raise SystemExit(128 + number)
        self._received.set()

    @property
    def received(self) -> bool:
        """Whether a stop was asked for."""
        return self._received.is_set()

    async def wait(self) -> None:
        """Until a stop is asked for."""
        await self._received.wait()


class Lag(msgspec.Struct, frozen=True):
    """How late the loop was, in seconds, since the meter was last read."""

    last: float = 0.0
    worst: float = 0.0
    total: float = 0.0
    ticks: int = 0


class LagMeter:
    """Measures how late the event loop runs a timer: what a stall adds to every answer.

    Args:
        clock: The clock to measure with.
        period: Seconds between measurements.
    """

    def __init__(self, clock: Clock, period: float = 0.1) -> None:
        self._clock = clock
        self._period = period
        self._lag = Lag()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self._clock.monotonic() + self._period
            await asyncio.sleep(self._period)
            late = max(0.0, self._clock.monotonic() - due)
            lag = self._lag
            self._lag = Lag(late, max(lag.worst, late), lag.total + late, lag.ticks + 1)

    def read(self) -> Lag:
        """What was measured since the last call."""
        lag, self._lag = self._lag, Lag()
        return lag
