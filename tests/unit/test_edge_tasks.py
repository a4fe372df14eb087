"""Supervised tasks, stop signals, and the lag of the loop."""

import asyncio
import os
import signal

import pytest

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.tasks import LagMeter, OnExit, StopSignals, Supervisor, TaskCrashedError


def supervisor() -> Supervisor:
    return Supervisor(SystemClock(), SystemEntropy())


async def forever() -> None:
    await asyncio.Event().wait()


async def crash() -> None:
    raise RuntimeError("broken")


async def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("main", "on_exit"),
    [(crash, OnExit.FAIL), (nothing, OnExit.FAIL), (crash, OnExit.DONE)],
)
def test_a_task_that_must_run_ends_the_program_when_it_ends(main: object, on_exit: OnExit) -> None:
    async def program() -> None:
        async with supervisor() as tasks:
            tasks.start("other", forever)
            tasks.start("fragile", main, on_exit)  # type: ignore[arg-type] # one of the three above
            await tasks.wait()

    with pytest.raises(TaskCrashedError, match="fragile ended"):
        asyncio.run(program())


def test_a_task_may_end_when_it_is_done() -> None:
    async def program() -> bool:
        async with supervisor() as tasks:
            await tasks.start("short", nothing, OnExit.DONE)
            return tasks.stopping

    assert asyncio.run(program()) is False


def test_a_task_is_restarted_until_it_holds() -> None:
    starts: list[int] = []

    async def flaky() -> None:
        starts.append(1)
        if len(starts) < 3:
            raise RuntimeError("not yet")
        await forever()

    async def program() -> None:
        async with supervisor() as tasks:
            tasks.start("flaky", flaky, OnExit.RESTART)
            while len(starts) < 3:  # noqa: ASYNC110 - the task under test tells nobody
                await asyncio.sleep(0.01)
            assert not tasks.stopping

    asyncio.run(program())


def test_at_the_end_tasks_are_cancelled_last_first_and_awaited() -> None:
    ended: list[str] = []

    async def named(name: str) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def program() -> None:
        async with supervisor() as tasks:
            for name in ("first", "second", "third"):
                tasks.start(name, lambda name=name: named(name))  # type: ignore[misc]
            await asyncio.sleep(0)
            tasks.stop()
            await tasks.wait()

    asyncio.run(program())
    assert ended == ["third", "second", "first"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_awaitable(number: signal.Signals) -> None:
    async def program() -> None:
        with StopSignals() as stop:
            assert not stop.received
            os.kill(os.getpid(), number)
            async with asyncio.timeout(5):
                await stop.wait()
            assert stop.received

    asyncio.run(program())


def test_the_second_signal_ends_the_program() -> None:
    async def program() -> None:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await forever()

    with pytest.raises(SystemExit) as caught:
        asyncio.run(program())
    assert caught.value.code == 128 + signal.SIGTERM


class StallingClock(SystemClock):
    """A clock that seems to jump while the loop sleeps."""

    def __init__(self) -> None:
        self.readings = iter([0.0, 0.75, 1.0, 1.01, 2.0, 2.01])

    def monotonic(self) -> float:
        return next(self.readings, 3.0)


def test_the_meter_tells_the_worst_lateness_since_it_was_read() -> None:
    async def program() -> None:
        meter = LagMeter(StallingClock(), period=0.01)
        task = asyncio.create_task(meter.run())
        while meter.read().worst < 0.7:  # noqa: ASYNC110 - the meter is the thing under test
            await asyncio.sleep(0.001)
        assert meter.read().worst < 0.7
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(program())
