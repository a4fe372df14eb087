"""How a speaker begins and ends: what it knows of the run before, and what it leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clarion.base.addr import Prefix
from clarion.daemons import speaker as module
from clarion.daemons.liveness import BOOT_ANNOTATION, LEASE_LABELS, lease_name
from clarion.daemons.runtime import Runtime
from clarion.daemons.speaker import Speaker, SpeakerOptions
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import GRACEFUL_SHUTDOWN
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.settings import Peer
from clarion.edge.procid import boot_id
from clarion.model.core import Lease, LeaseSpec, Node
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import ConfigurationState
from clarion.model.sessions import BGPSessionStatus
from clarion.testing import builders as b
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, NoWaiting, StillClock, run, until

KEY = ObjectKey(SYSTEM, lease_name("n1"))
RESTARTS = b.peer("r", enable_graceful_restart=True)
WORLD: list[KubeObject] = [
    b.pool("p", "192.0.2.0/28"),
    b.bgp_advertisement(local_pref=200),
    b.service("web", ingress=("192.0.2.1",)),
    b.endpoints("web", "n1"),
    b.node("n1"),
]


class Recorder:
    """A back end that notes what it is told."""

    def __init__(self, *, ends_sessions: bool = True) -> None:
        self.ends_sessions = ends_sessions
        self.said: list[str] = []
        self.peers: Mapping[str, Peer] = {}
        self.routes: dict[Prefix, AdvertisedRoute | None] = {}
        self.up: dict[str, str] = {}
        self.listener = self.neighborhoods = None
        self.refused: tuple[Problem, ...] = ()

    def begin(self, *, restarted: bool) -> None:
        self.said.append(f"begin, restarted {restarted}")

    def set_peers(self, peers: Mapping[str, Peer], profiles: object) -> None:
        self.said.append("peers")
        self.peers = peers

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        self.routes.update(changes)

    async def stop(self, *, keep_routes: bool) -> None:
        shed = [route and GRACEFUL_SHUTDOWN in route.communities for route in self.routes.values()]
        self.said.append(f"stop, keep routes {keep_routes}, shed {shed}")

    def problems(self) -> tuple[Problem, ...]:
        return self.refused

    def states(self) -> dict[str, BGPSessionStatus]:
        return {name: BGPSessionStatus(peer=name, state=state) for name, state in self.up.items()}

    def samples(self) -> tuple[()]:
        return ()

    def shown(self) -> dict[str, object]:
        return {}


class Pulse:
    """A pulse process that has nothing to answer for."""

    interfaces: tuple[()] = ()
    counts: Mapping[Any, Any] = {}

    async def ready(self) -> None:
        """At once."""

    def change_table(self, new: object, gone: object) -> None:
        """Nothing is answered for in these tests."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("set_", "change_")):
            return lambda *args, **more: None
        raise AttributeError(name)

    async def stop(self, *, keep_paths: bool) -> None:
        """At once."""


def lease(boot: str) -> Lease:
    meta = ObjectMeta(
        name=KEY.name,
        namespace=KEY.namespace,
        labels=LEASE_LABELS,
        annotations={BOOT_ANNOTATION: boot} if boot else {},
    )
    return Lease(metadata=meta, spec=LeaseSpec(lease_duration_seconds=4, renew_time="before"))


class World:
    """A speaker that runs against an API in memory."""

    def __init__(self, backend: Recorder, *objects: KubeObject, shutdown: float = 0.0) -> None:
        self.client, self.backend = MemoryClient(), backend
        for obj in (*WORLD, *objects):
            self.client.put(obj)
        self.runtime = Runtime(
            "metallb-speaker", self.client, SYSTEM, clock=StillClock(), entropy=NoWaiting()
        )
        options = SpeakerOptions(node_name="n1", namespace=SYSTEM, graceful_shutdown=shutdown)
        self.speaker = Speaker(self.runtime, options)
        self.speaker._pulse = Pulse()  # type: ignore[assignment]

    def see(self, of: type[KubeObject], key: ObjectKey, obj: KubeObject | None) -> None:
        """The watch tells of a change."""
        reflector = self.runtime.informers._reflectors.get(kind_of(of))
        if reflector is not None:
            reflector._drop(key) if obj is None else reflector._put(key, obj)

    def look(self) -> None:
        """The watches bring what changed."""
        self.client.deliver(self.see)

    async def until(self, condition: Any) -> None:
        """What the speaker writes comes back to it, until something is so."""

        def so() -> bool:
            self.look()
            return bool(condition())

        await until(so)

    def lease(self) -> Lease | None:
        """What is stored of the speaker's Lease."""
        found = self.client.objects.get((Lease, KEY))
        return None if found is None else self.client.read(Lease, KEY)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """The speaker has told who speaks BGP of its peers."""
    world.look()
    for reflector in world.runtime.informers._reflectors.values():
        reflector.synced.set()
    async with world.runtime.tasks as tasks:
        world.speaker._decide = tasks.start("decide", world.speaker._run)
        await world.until(lambda: "peers" in world.backend.said and world.lease())
        yield world


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(module, "BACK_ENDS", {"native": lambda *_: made})
    return made


@pytest.mark.parametrize(
    ("before", "restarted"),
    [([], False), ([lease("")], False), ([lease("elsewhen")], False), ([lease(boot_id())], True)],
    ids=["no Lease", "a Lease of an older version", "before a reboot", "in this boot"],
)
def test_only_a_run_in_the_same_boot_counts_as_one_before(
    backend: Recorder, before: list[KubeObject], restarted: bool
) -> None:
    async def play() -> None:
        async with running(World(backend, RESTARTS, *before)) as world:
            await world.speaker.stop()

    run(play)
    assert backend.said[:2] == [f"begin, restarted {restarted}", "peers"]
    assert backend.said[-1] == "stop, keep routes True, shed [False]"


@pytest.mark.parametrize("peer", [RESTARTS, b.peer("r")], ids=["graceful restart", "none"])
def test_the_lease_stays_where_who_starts_next_needs_it(
    backend: Recorder, peer: KubeObject
) -> None:
    found: list[Lease | None] = []

    async def play() -> None:
        async with running(World(backend, peer)) as world:
            held = world.lease()
            assert held
            assert held.spec.holder_identity == "n1"
            assert held.metadata.annotations[BOOT_ANNOTATION] == boot_id()
            await world.speaker.stop()
            found.append(world.lease())

    run(play)
    (left,) = found
    if peer is RESTARTS:
        assert left
        assert left.spec.holder_identity is None
        assert left.metadata.annotations[BOOT_ANNOTATION] == boot_id()
    else:
        assert left is None


def test_traffic_is_shed_before_a_stop_where_that_is_asked_for(backend: Recorder) -> None:
    backend.up = {"r": "Established"}

    async def play() -> None:
        async with running(World(backend, RESTARTS, shutdown=0.05)) as world:
            stop = asyncio.create_task(world.speaker.stop())
            await world.until(lambda: all(r and r.local_pref == 0 for r in backend.routes.values()))
            assert not stop.done(), "the routes are there while traffic moves"
            await stop

    run(play)
    assert backend.said[-1] == "stop, keep routes False, shed [True]"


@pytest.mark.parametrize("case", ["no session is up", "the sessions go on without the speaker"])
def test_nobody_waits_for_traffic_that_is_not_there_or_stays(backend: Recorder, case: str) -> None:
    if case != "no session is up":
        backend.up, backend.ends_sessions = {"r": "Established"}, False

    async def play() -> None:
        async with running(World(backend, RESTARTS, shutdown=600.0)) as world:
            await world.speaker.stop()

    run(play)
    assert backend.said[-1] == "stop, keep routes True, shed [False]"


def test_a_cordoned_node_sheds_its_traffic_and_takes_it_back(backend: Recorder) -> None:
    async def play() -> None:
        async with running(World(backend, RESTARTS, shutdown=600.0)) as world:
            for cordoned, pref in ((True, 0), (False, 200)):
                patch = {"spec": {"unschedulable": cordoned}}
                world.client.change(Node, ObjectKey("", "n1"), patch)
                await world.until(
                    lambda p=pref: [r and r.local_pref for r in backend.routes.values()] == [p]
                )
            assert backend.said.count("peers") == 1

    run(play)


def test_what_the_back_end_cannot_put_in_force_is_in_the_configuration_state(
    backend: Recorder,
) -> None:
    refused = Problem(
        code="frr-refuses",
        object=ObjectRef("BGPPeer", SYSTEM, "r"),
        facts={"line": "neighbor 192.0.2.9 timers 1 2", "answer": "% no"},
    )

    async def play() -> None:
        async with running(World(backend, RESTARTS)) as world:
            world.runtime.tasks.start("writer", world.speaker._writer.run)
            key = ObjectKey(SYSTEM, "speaker-n1")

            def told(result: str, words: str) -> bool:
                if (ConfigurationState, key) not in world.client.objects:
                    return False
                status = world.client.read(ConfigurationState, key).status
                return status.result == result and words in status.error_summary

            await world.until(lambda: told("Valid", ""))
            backend.refused = (refused,)
            world.speaker._session_changed()
            words = "[frr-refuses] BGPPeer metallb-system/r: FRR refuses 'neighbor 192.0.2.9 timers"
            await world.until(lambda: told("Invalid", words))
            backend.refused = ()
            world.speaker._session_changed()
            await world.until(lambda: told("Valid", ""))

    run(play)
