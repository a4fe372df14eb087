"""Writes: the latest of each object, in order, bounded; refusals and outages told apart."""

import asyncio
from collections.abc import Callable

import pytest

from clarion.base import limits
from clarion.daemons.writer import Job, WriteQueue
from clarion.edge.kubeclient import (
    ApiError,
    ConflictError,
    InvalidError,
    NotFoundError,
    TooManyRequestsError,
    UnreachableError,
)

from .daemons_kit import Writing, run, until

AWAY = UnreachableError(0, "", "connection refused")
REFUSED = InvalidError(422, "Invalid", "no")


async def nothing() -> None:
    """A write that does nothing."""


def taken(queue: WriteQueue, now: float = 0.0) -> list[Job]:
    """All that may begin at this moment."""
    jobs = []
    while (job := queue.take(now)) is not None:
        jobs.append(job)
    return jobs


def keys(jobs: list[Job]) -> list[object]:
    return [job.key for job in jobs]


def filled(*names: str, in_flight: int = 2) -> WriteQueue:
    queue = WriteQueue(in_flight)
    for name in names:
        queue.put(name, nothing)
    return queue


def test_no_more_than_so_many_are_under_way_and_the_longest_waiting_is_next() -> None:
    queue = filled("a", "b", "c")
    first = taken(queue)
    assert keys(first) == ["a", "b"]
    assert taken(queue) == []
    queue.succeeded(first[0])
    assert keys(taken(queue)) == ["c"]
    assert len(queue) == 2


def test_a_newer_write_replaces_one_that_waits_and_follows_one_under_way() -> None:
    async def newer() -> None:
        pass

    queue = filled("a")
    (old,) = taken(queue)
    queue.put("a", nothing)
    queue.put("a", newer)
    queue.put("b", nothing)
    assert keys(taken(queue)) == ["b"], "of one object one write at a time"
    queue.succeeded(old)
    (job,) = taken(queue)
    assert (job.key, job.write) == ("a", newer)


def test_a_refused_object_rests_alone_and_longer_each_time() -> None:
    queue = filled("bad", "good")
    now, pauses = 0.0, []
    for _ in range(12):
        job = next(job for job in taken(queue, now) if job.key == "bad")
        pauses.append(queue.failed(job, REFUSED, now, 0.5))
        assert "bad" in queue
        assert queue.deadline() == now + pauses[-1]
        assert keys(taken(queue, now)) in ([], ["good"])
        now += pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[-1] <= limits.WRITE_RETRY_MAX_SECONDS
    assert not queue.away


def test_a_newer_write_of_a_refused_object_goes_at_once() -> None:
    queue = filled("bad")
    (job,) = taken(queue)
    queue.failed(job, REFUSED, 0.0, 0.5)
    assert taken(queue) == []
    queue.put("bad", nothing)
    (job,) = taken(queue)
    queue.succeeded(job)
    assert taken(queue, 100.0) == []
    assert queue.deadline() is None
    assert len(queue) == 0


def test_in_an_outage_all_wait_and_one_at_a_time_tries() -> None:
    queue = filled("a", "b", "c", "d")
    first, second = taken(queue)
    pause = queue.failed(first, AWAY, 0.0, 0.5)
    assert queue.failed(second, AWAY, 0.0, 0.5) == pause, "what fails together is one failure"
    assert taken(queue, pause / 2) == []
    assert queue.deadline() == pause
    now = pause
    for _ in range(10):
        probes = taken(queue, now)
        assert len(probes) == 1
        assert queue.deadline() is None, "the probe's end comes first"
        pause = queue.failed(probes[0], AWAY, now, 0.5)
        assert pause <= limits.WRITE_PROBE_MAX_SECONDS
        now += pause
    (probe,) = taken(queue, now)
    queue.succeeded(probe)
    assert not queue.away
    assert len(taken(queue, now)) == 2
    assert len(queue) == 3, "none was lost"


def test_a_sign_of_life_ends_the_wait_for_a_silent_server_only() -> None:
    queue = filled("a", "b")
    for job in taken(queue):
        queue.failed(job, AWAY, 0.0, 1.0)
    assert queue.heard()
    assert len(taken(queue, 0.0)) == 1
    assert not queue.heard()
    queue = filled("a")
    (job,) = taken(queue)
    asked = TooManyRequestsError(429, "TooManyRequests", "wait", retry_after=20)
    assert queue.failed(job, asked, 0.0, 0.0) >= 20
    assert not queue.heard()
    assert taken(queue, 19.0) == []


def test_a_refusal_ends_an_outage() -> None:
    queue = filled("a", "b")
    for job in taken(queue):
        queue.failed(job, AWAY, 0.0, 0.0)
    (probe,) = taken(queue, 10.0)
    queue.failed(probe, REFUSED, 10.0, 0.5)
    assert not queue.away
    assert len(taken(queue, 10.0)) == 1


@pytest.mark.parametrize("error", [AWAY, REFUSED])
def test_a_forgotten_write_is_not_tried_again(error: ApiError) -> None:
    queue = filled("waits", "fails", "rests", in_flight=3)
    jobs = {job.key: job for job in taken(queue)}
    queue.failed(jobs["rests"], REFUSED, 0.0, 0.5)
    queue.forget("fails")
    queue.failed(jobs["fails"], error, 0.0, 0.5)
    queue.put("waits", nothing)
    queue.succeeded(jobs["waits"])
    queue.forget("waits")
    queue.forget("rests")
    assert taken(queue, 1000.0) == []
    assert len(queue) == 0


def test_the_writer_performs_what_is_put_and_is_idle_then() -> None:
    done: list[str] = []

    async def play() -> None:
        async def write(name: str) -> None:
            done.append(name)

        async with Writing() as writer:
            for name in ("a", "b", "a"):
                writer.put(name, lambda name=name: write(name))  # type: ignore[misc]
            await until(lambda: writer.idle)
            assert writer.written == 2

    run(play)
    assert sorted(done) == ["a", "b"]


@pytest.mark.parametrize("error", [ConflictError, NotFoundError])
def test_a_conflict_drops_the_write(error: Callable[..., ApiError]) -> None:
    tries: list[int] = []

    async def play() -> None:
        async def write() -> None:
            tries.append(1)
            raise error(409, "Conflict", "changed")

        async with Writing() as writer:
            writer.put("a", write)
            await until(lambda: writer.idle)
            assert (writer.written, writer.failed) == (0, 0)

    run(play)
    assert tries == [1]


@pytest.mark.parametrize("error", [AWAY, REFUSED])
def test_a_write_is_tried_until_it_is_done(error: ApiError) -> None:
    tries: list[int] = []

    async def play() -> None:
        async def write() -> None:
            tries.append(1)
            if len(tries) < 4:
                raise error

        async with Writing() as writer:
            writer.put("a", write)
            await until(lambda: writer.idle)
            assert (writer.written, writer.failed) == (1, 3)

    run(play)


def test_slow_writes_are_bounded_in_number() -> None:
    under_way, most = 0, 0

    async def play() -> None:
        gate = asyncio.Event()

        async def write() -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await gate.wait()
            under_way -= 1

        async with Writing() as writer:
            for number in range(3 * limits.WRITES_IN_FLIGHT):
                writer.put(number, write)
            await until(lambda: under_way == limits.WRITES_IN_FLIGHT)
            assert writer.busy_with(0)
            gate.set()
            await until(lambda: writer.idle)

    run(play)
    assert most == limits.WRITES_IN_FLIGHT
