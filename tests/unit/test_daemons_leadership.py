"""One controller leads: the others write nothing, and whoever takes over has seen everything."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from clarion.base import limits
from clarion.daemons.leadership import LEASE
from clarion.daemons.takeover import catch_up
from clarion.daemons.writer import Writer
from clarion.edge.kubeclient import UnreachableError
from clarion.edge.logs import Log
from clarion.model.core import Lease, Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import ConfigurationState
from clarion.testing import builders
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, NoWaiting, StillClock, World, run, until


@pytest.fixture(autouse=True)
def _quick_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LEADER_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(limits, "TAKEOVER_LOOK_SECONDS", 0.05)


WEB = ObjectKey("default", "web")
KEY = ObjectKey(SYSTEM, LEASE)


def ingress(client: MemoryClient, name: str) -> list[str]:
    stored = client.read(Service, ObjectKey("default", name))
    return [item.ip for item in stored.status.load_balancer.ingress]


class Replica(World):
    """A controller that takes part in the election, run as the program runs it."""

    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client, elect=True)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def leads(self) -> bool:
        return self.controller.leadership.leads

    def see_all(self) -> None:
        """The first list of each kind arrives."""
        for (of, key), _ in [*self.client.objects.items()]:
            self.see(of, key, self.client.read(of, key))
        for reflector in self.runtime.informers._reflectors.values():
            reflector.synced.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run as `start` does; the lease is given up last."""
        async with self.runtime.tasks:
            self.controller.start()
            yield


@asynccontextmanager
async def followed(client: MemoryClient, *replicas: Replica) -> AsyncIterator[None]:
    """The watches: every replica sees each change soon after it was made."""

    async def deliver() -> None:
        def tell(of: type[KubeObject], key: ObjectKey, obj: KubeObject | None) -> None:
            for replica in replicas:
                replica.see(of, key, obj)

        while True:
            client.deliver(tell)
            await asyncio.sleep(0)

    task = asyncio.create_task(deliver())
    yield
    task.cancel()
    await asyncio.wait([task])


def test_a_follower_writes_nothing_and_takes_over_what_the_leader_left() -> None:
    async def play() -> None:
        client = MemoryClient()
        client.put(builders.pool("pool", "192.0.2.0/30"))
        client.put(builders.service("web"))
        one, two = Replica(client), Replica(client)
        async with followed(client, one, two), AsyncExitStack() as first:
            await first.enter_async_context(one.running())
            one.see_all()
            await until(lambda: ingress(client, "web") == ["192.0.2.0"])
            async with two.running():
                two.see_all()
                assert (one.leads, two.leads) == (True, False)
                assert not two.controller._planner.config.pools, "a follower decides nothing"
                assert list(two.runtime.not_ready()) == []
                await first.aclose()
                # Given up at the stop, so that nobody waits for its end.
                client.put(builders.service("api"))
                await until(lambda: ingress(client, "api") == ["192.0.2.1"])
                assert two.leads
                assert ingress(client, "web") == ["192.0.2.0"]

    run(play)


def test_a_leader_that_lost_its_lease_stops_writing_and_leads_again_from_the_beginning() -> None:
    async def play() -> None:
        client = MemoryClient()
        client.put(builders.pool("pool", "192.0.2.0/30"))
        client.put(builders.service("web"))
        replica = Replica(client)
        async with followed(client, replica), replica.running():
            replica.see_all()
            await until(lambda: ingress(client, "web"))
            before = replica.controller._planner
            client.change(Lease, KEY, {"spec": {"holderIdentity": "other", "renewTime": "now"}})
            replica.clock.at += 10.0  # the lease is over, whatever was heard of it
            assert not replica.leads
            writes = len(client.calls)
            client.put(builders.service("late"))
            replica.controller.tick()  # a decision under way when the lease ended
            await until(lambda: replica.controller._writer.idle)
            assert not [c for c in client.calls[writes:] if c.kind == "Service"]
            assert ingress(client, "late") == []
            client.drop(Lease, KEY)
            await until(lambda: ingress(client, "late") == ["192.0.2.1"])
            await until(lambda: replica.leads)
            assert replica.controller._planner is not before, "another may have decided otherwise"

    run(play)


def test_a_lease_that_nobody_else_had_is_gone_on_with_and_nothing_is_lost() -> None:
    async def play() -> None:
        client = MemoryClient()
        client.put(builders.pool("pool", "192.0.2.0/30"))
        client.put(builders.service("web"))
        replica = Replica(client)
        async with followed(client, replica), replica.running():
            replica.see_all()
            await until(lambda: ingress(client, "web"))
            before = replica.controller._planner
            replica.clock.at += 10.0  # it was not renewed in time, as when the API is away
            client.put(builders.service("late"))
            client.drop(ConfigurationState, ObjectKey(SYSTEM, "controller"))
            assert not replica.leads
            await until(lambda: ingress(client, "late") == ["192.0.2.1"])
            state = ConfigurationState, ObjectKey(SYSTEM, "controller")
            await until(lambda: state in client.objects)
            assert replica.controller._planner is before

    run(play)


# --- seeing what is stored ------------------------------------------------------------------


def caught_up(
    client: MemoryClient,
    store: dict[ObjectKey, Service],
    changed: asyncio.Event,
    unread: Callable[[], frozenset[str]] = frozenset,
) -> "asyncio.Task[None]":
    return asyncio.create_task(
        catch_up(
            client,
            Service,
            store,
            unread=unread,
            changed=changed,
            wanted=lambda: True,
            log=Log("test"),
        )
    )


def test_nothing_is_decided_before_the_newest_version_was_seen() -> None:
    async def play() -> None:
        client, changed = MemoryClient(), asyncio.Event()
        client.put(builders.service("web"))
        old = client.read(Service, WEB)
        client.change(Service, WEB, {"metadata": {"labels": {"a": "b"}}})
        store = {WEB: old}
        task = caught_up(client, store, changed)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        store[WEB] = client.read(Service, WEB)
        changed.set()
        await task

    run(play)


def test_what_cannot_be_read_and_what_was_deleted_meanwhile_is_not_waited_for() -> None:
    async def play() -> None:
        client, changed = MemoryClient(), asyncio.Event()
        client.put(builders.service("web"))
        await caught_up(client, {}, changed, lambda: frozenset({"default/web"}))
        task = caught_up(client, {}, changed)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        client.drop(Service, WEB)
        await task

    run(play)


# --- the fence ------------------------------------------------------------------------------


def test_no_write_is_begun_or_waited_for_beyond_the_fence() -> None:
    async def play() -> None:
        clock, fence, begun = StillClock(), [1000.01], list[str]()
        writer = Writer(clock, NoWaiting(), Log("test"), lambda: fence[0])
        task = asyncio.create_task(writer.run())

        async def hang() -> None:
            begun.append("hang")
            await asyncio.Event().wait()

        async def write(name: str) -> None:
            begun.append(name)

        writer.put("a", hang)
        await until(lambda: writer.failed == 1)  # given up when the time is over
        clock.at = fence[0]
        writer.clear()
        writer.put("b", lambda: write("b"))
        await until(lambda: writer.idle)
        assert begun == ["hang"]
        fence[0] = math.inf
        writer.put("c", lambda: write("c"))
        await until(lambda: writer.idle)
        assert begun == ["hang", "c"]
        task.cancel()
        await asyncio.wait([task])

    run(play)


def test_a_write_cut_off_by_a_lease_that_was_renewed_meanwhile_is_tried_again() -> None:
    async def play() -> None:
        clock, fence, tries = StillClock(), [1000.01], list[int]()
        writer = Writer(clock, NoWaiting(), Log("test"), lambda: fence[0])
        task = asyncio.create_task(writer.run())

        async def write() -> None:
            tries.append(1)
            if len(tries) == 1:
                fence[0] = math.inf
                await asyncio.Event().wait()

        writer.put("a", write)
        await until(lambda: len(tries) == 2)
        await until(lambda: writer.idle)
        task.cancel()
        await asyncio.wait([task])

    run(play)


def test_an_election_goes_on_when_the_lease_cannot_be_written_for_a_while() -> None:
    async def play() -> None:
        client = MemoryClient()
        client.refusals.extend([UnreachableError(0, "Unreachable", "no")] * 3)
        replica = Replica(client)
        async with replica.running():
            replica.see_all()
            await until(lambda: replica.leads)
            assert len([c for c in client.calls if c.kind == "Lease"]) == 4

    run(play)
