"""What the tests of the programs share.

A clock that stands still, retries without waiting, an API in memory and a program that follows it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from clarion.daemons.controller import Controller
from clarion.daemons.runtime import Runtime
from clarion.daemons.writer import Writer
from clarion.decide.snapshot import Options
from clarion.edge.clock import SystemEntropy
from clarion.edge.logs import Log
from clarion.edge.reflector import Informers
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject, ObjectKey
from clarion.testing.memoryapi import MemoryClient

T = TypeVar("T")
SYSTEM = "metallb-system"


class StillClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


class NoWaiting(SystemEntropy):
    """Of each delay half is fixed and half is random: this randomness takes the fixed half away."""

    def random(self) -> float:
        return -1.0


def run(play: Callable[[], Awaitable[T]]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(20):
            return await play()

    return asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks run until something is so."""
    while not condition():  # noqa: ASYNC110 - whatever it is, it tells nobody
        await asyncio.sleep(0)


class Writing:
    """A running writer, as `async with`."""

    def __init__(self) -> None:
        self.writer = Writer(StillClock(), NoWaiting(), Log("test"))

    async def __aenter__(self) -> Writer:
        self._task = asyncio.create_task(self.writer.run())
        return self.writer

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()


class World:
    """A controller that follows an API in memory."""

    def __init__(self, client: MemoryClient | None = None, *, elect: bool = False) -> None:
        self.client = client or MemoryClient()
        self.clock = StillClock()
        self.runtime = Runtime(
            "metallb-controller", self.client, SYSTEM, clock=self.clock, entropy=NoWaiting()
        )
        self.controller = Controller(self.runtime, Options(namespace=SYSTEM), elect=elect)

    def see(self, of: type[KubeObject], key: ObjectKey, obj: KubeObject | None) -> None:
        """The watch tells of a change."""
        informers: Informers = self.runtime.informers
        reflector = informers._reflectors.get(kind_of(of))
        if reflector is None:
            return
        if obj is None:
            reflector._drop(key)
        else:
            reflector._put(key, obj)

    async def due(self, seconds: float) -> None:
        """So much time passes; the controller wakes by itself and decides."""
        self.clock.at += seconds
        self.controller._wake.clear()
        await self.controller._next_change()
        self.controller.tick()
        writer = self.controller._writer
        task = asyncio.create_task(writer.run())
        await until(lambda: writer.idle or task.done())
        task.cancel()
        await asyncio.wait([task])

    async def settle(self) -> None:
        """Let the program see, decide and write until nothing moves any more."""
        writer = self.controller._writer
        task = asyncio.create_task(writer.run())
        while self.client.deliver(self.see):
            self.controller.tick()
            await until(lambda: writer.idle or task.done())
        task.cancel()
        await asyncio.wait([task])
