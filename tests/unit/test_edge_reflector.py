"""The reflector over real HTTP against a server that misbehaves by script."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.credentials import Identity, StaticCredentials
from clarion.edge.kubeclient import KubeClient, Selection
from clarion.edge.kubeconfig import KubeConfig
from clarion.edge.reflector import Informers, Reflector
from clarion.edge.tasks import Supervisor
from clarion.model.core import ConfigMap, Service
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import Community
from clarion.proto.kube.backoff import BackoffPolicy
from clarion.proto.kube.guard import GuardPolicy
from clarion.proto.kube.reflector import Policy
from clarion.testing.scripted import (
    Answer,
    ScriptedServer,
    a_list,
    cut,
    event,
    refuse,
    reply,
    stream,
)

QUICK = Policy(
    page_items=2,
    watch_seconds=300.0,
    healthy_stream_seconds=0.0,
    backoff=BackoffPolicy(base=0.01, cap=0.02),
)


def obj(name: str, version: int, **data: str) -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "data": data}


ERROR_410 = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what the server saw has no event
            await asyncio.sleep(0.002)


class Scene:
    """A reflector of ConfigMaps that runs against the script, and what it told."""

    def __init__(self, server: ScriptedServer, client: KubeClient, policy: Policy) -> None:
        self.server = server
        self.deltas: list[str] = []
        self.reflector = Reflector(
            client,
            ConfigMap,
            SystemClock(),
            SystemEntropy(),
            on_delta=self.on_delta,
            selection=Selection("ns"),
            policy=policy,
            guard=None,
        )

    def on_delta(
        self, kind: Kind, key: ObjectKey, old: KubeObject | None, new: KubeObject | None
    ) -> None:
        assert kind.kind == "ConfigMap"
        sign = "+" if old is None else "-" if new is None else "~"
        self.deltas.append(f"{sign}{key}")

    def data(self) -> dict[str, dict[str, str]]:
        return {key.name: dict(found.data) for key, found in self.reflector.store.items()}

    async def ends_with(self, *deltas: str) -> None:
        """Until the script is used up and exactly this was told."""
        await until(lambda: self.server.finished and len(self.deltas) >= len(deltas))
        assert self.deltas == list(deltas)


def run(
    play: Callable[[Scene], Awaitable[None]], *answers: Answer, policy: Policy = QUICK
) -> Scene:
    async def main() -> Scene:
        async with ScriptedServer() as server:
            server.script(*answers)
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            async with KubeClient(config, timeout=1.0) as client:
                scene = Scene(server, client, policy)
                task = asyncio.create_task(scene.reflector.run())
                try:
                    await play(scene)
                    assert not task.done(), task
                finally:
                    task.cancel()
                    await asyncio.wait([task])
        return scene

    return asyncio.run(main())


def ends_with(*deltas: str) -> Callable[[Scene], Awaitable[None]]:
    """A play that only waits for these changes."""
    return lambda scene: scene.ends_with(*deltas)


def test_pages_then_a_watch() -> None:
    scene = run(
        ends_with("+ns/a", "+ns/b", "+ns/c", "+ns/d", "~ns/c", "-ns/a"),
        a_list(obj("a", 1), obj("b", 2), token="t1"),
        a_list(obj("c", 3, x="1")),
        stream(
            event("ADDED", obj("d", 11)),
            event("MODIFIED", obj("c", 12, x="2")),
            event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
            event("DELETED", obj("a", 21)),
            None,
        ),
    )
    assert scene.data() == {"b": {}, "c": {"x": "2"}, "d": {}}
    assert scene.reflector.synced.is_set()
    assert [seen.query.get("continue") for seen in scene.server.seen] == [None, "t1", None]
    assert scene.server.seen[2].query["resourceVersion"] == "10"
    health = scene.reflector.health
    assert (health.objects, health.trouble, health.lists, health.watches) == (3, "", 1, 1)


def test_a_stream_cut_in_the_middle_of_a_line_is_resumed_after_the_last_whole_one() -> None:
    whole, half = event("ADDED", obj("b", 15)), event("DELETED", obj("a", 16))[:30]
    scene = run(
        ends_with("+ns/a", "+ns/b", "-ns/a"),
        a_list(obj("a", 1)),
        stream(whole[:20], 0.01, whole[20:] + half, abort=True),
        stream(event("DELETED", obj("a", 16)), None),
    )
    assert scene.data() == {"b": {}}
    assert scene.server.seen[2].query["resourceVersion"] == "15"


@pytest.mark.parametrize(
    "trouble",
    [
        refuse(410, "Expired"),
        stream(event("ERROR", ERROR_410), None),
        refuse(404, "NotFound"),
        stream(b"garbage\n", None),
    ],
)
def test_what_cannot_be_gone_on_from_is_listed_anew(trouble: Answer) -> None:
    policy = Policy(
        page_items=2,
        healthy_stream_seconds=0.0,
        bad_lines=1,
        backoff=BackoffPolicy(base=0.01, cap=0.02),
    )
    scene = run(
        ends_with("+ns/a", "+ns/b", "+ns/c", "-ns/a"),
        a_list(obj("a", 1), obj("b", 2)),
        trouble,
        a_list(obj("b", 2), obj("c", 30), version="31"),
        stream(None),
        policy=policy,
    )
    assert scene.server.seen[3].query["resourceVersion"] == "31"


@pytest.mark.parametrize(
    "trouble",
    [
        (refuse(500),),
        (refuse(503), refuse(429, retry_after=0)),
        (cut(), cut()),
        (refuse(401), refuse(401)),
        (refuse(404),),
        (reply(b"{}"),),
        (reply(b'{"metadata":'),),
        (stream(b'{"metadata":', abort=True),),
        (stream(b'{"metadata":', None),),  # runs into the time-out
    ],
)
def test_lists_that_fail_are_tried_again(trouble: tuple[Answer, ...]) -> None:
    scene = run(ends_with("+ns/a"), *trouble, a_list(obj("a", 1)), stream(None))
    assert scene.data() == {"a": {}}
    assert scene.reflector.health.trouble == ""


def test_a_throttle_is_obeyed() -> None:
    async def play(scene: Scene) -> None:
        await until(lambda: scene.reflector.health.trouble == "throttled")
        deadline = scene.reflector._machine.deadline
        assert deadline is not None
        assert deadline - SystemClock().monotonic() > 200
        assert len(scene.server.seen) == 1

    run(play, refuse(429, retry_after=240))


def test_a_server_that_restarts_is_followed_again_and_nothing_is_removed_meanwhile() -> None:
    async def play(scene: Scene) -> None:
        await until(lambda: scene.server.finished)
        await scene.server.stop()
        await until(lambda: scene.reflector.health.trouble == "unreachable")
        assert scene.data() == {"a": {}, "b": {}}
        scene.server.script(stream(event("DELETED", obj("a", 20)), None))
        await scene.server.start()
        await until(lambda: scene.data() == {"b": {}})
        assert scene.reflector.health.trouble == ""

    run(play, a_list(obj("a", 1), obj("b", 2)), stream(None))


def test_a_kind_whose_definition_was_deleted_keeps_its_objects() -> None:
    async def play(scene: Scene) -> None:
        await until(lambda: scene.reflector.health.trouble == "kind-missing")
        assert scene.data() == {"a": {}}
        scene.server.script(*[refuse(404, "NotFound")] * 3, a_list(obj("a", 50)), stream(None))
        await scene.ends_with("+ns/a", "~ns/a")

    run(play, a_list(obj("a", 1)), refuse(404), refuse(404))


DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DISCOVERY = "/apis/metallb.io/v1beta1"
NAMESPACES = "/api/v1/namespaces"
HERE = Selection("ns")


def found(uid: str, *, going: bool = False) -> Answer:
    """A list of one object's metadata, or of nothing."""
    metadata = {"name": "x", "uid": uid} | ({"deletionTimestamp": "2026-01-01"} if going else {})
    return reply({"items": [{"metadata": metadata}] if uid else []})


def served(*verbs: str) -> Answer:
    """The discovery of metallb.io/v1beta1 with communities and what may be done to them."""
    return reply(
        {"kind": "APIResourceList", "resources": [{"name": "communities", "verbs": verbs}]}
    )


def follow(
    of: type[KubeObject],
    server_script: tuple[Answer, ...],
    apart: dict[str, tuple[Answer, ...]],
    play: Callable[[ScriptedServer, Reflector[Any]], Awaitable[None]],
    selection: Selection = HERE,
) -> None:
    """Follow a kind with its guard, against a script and answers to the guard's questions."""

    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(*server_script)
            for path, answers in apart.items():
                server.script_apart(path, *answers)
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            async with KubeClient(config) as client:
                reflector = Reflector(
                    client,
                    of,
                    SystemClock(),
                    SystemEntropy(),
                    policy=QUICK,
                    selection=selection,
                    guard=GuardPolicy(hold=0.01, settle=0.02, retry=0.01),
                )
                task = asyncio.create_task(reflector.run())
                await play(server, reflector)
                assert not task.done(), task
                task.cancel()
                await asyncio.wait([task])
            assert not server.beyond

    asyncio.run(main())


def names(reflector: Reflector[Any]) -> set[str]:
    return {key.name for key in reflector.store}


STANDS = (found("u1"),)
C1, C2 = ({"metadata": obj(name, 1)["metadata"]} for name in ("c1", "c2"))


@pytest.mark.parametrize(
    ("apart", "left"),
    [
        ({DEFINITIONS: (found("u1"),)}, {"c2"}),
        ({DEFINITIONS: (found("u1"), found("u1", going=True))}, {"c1", "c2"}),
        ({DEFINITIONS: (found("u1"), found(""))}, {"c1", "c2"}),
        ({DEFINITIONS: (found("u1"), refuse(500), cut(), found("u1"))}, {"c2"}),
        ({DEFINITIONS: (refuse(503), found("u1"), found(""))}, {"c1", "c2"}),
        ({DEFINITIONS: (found("u1"),), NAMESPACES: (found("n1"), found(""))}, {"c1", "c2"}),
        ({DEFINITIONS: (refuse(403),), DISCOVERY: (served("list", "create"),)}, {"c2"}),
        (
            {DEFINITIONS: (refuse(403),), DISCOVERY: (served("create"), served("delete"))},
            {"c1", "c2"},
        ),
        ({DEFINITIONS: (refuse(403),), DISCOVERY: (served("create"), refuse(404))}, {"c1", "c2"}),
    ],
)
def test_a_deletion_of_configuration_stands_only_if_its_ground_does(
    apart: dict[str, tuple[Answer, ...]], left: set[str]
) -> None:
    async def play(server: ScriptedServer, reflector: Reflector[Any]) -> None:
        await until(lambda: server.finished and reflector.health.orphans == len(left) - 1)
        await until(lambda: names(reflector) == left)
        assert bool(reflector.health.lost) == (len(left) == 2)

    script = (a_list(C1, C2), stream(event("DELETED", C1), None))
    follow(Community, script, {NAMESPACES: STANDS} | apart, play)


def test_configuration_restored_on_new_ground_takes_over_and_what_is_missing_goes() -> None:
    async def play(server: ScriptedServer, reflector: Reflector[Any]) -> None:
        await until(lambda: reflector.health.orphans == 2)
        server.script_apart(DEFINITIONS, found("u2"))
        server.script(
            a_list(version="50"),
            stream(event("ADDED", {"metadata": obj("c1", 51)["metadata"]}), None),
        )
        await until(lambda: reflector.health.orphans == 0)
        assert names(reflector) == {"c1"}
        assert reflector.health.lost == ()

    script = (
        a_list(C1, C2),
        stream(event("DELETED", C1), event("DELETED", C2)),
        refuse(404),
        *[refuse(404)] * 3,
    )
    follow(Community, script, {NAMESPACES: STANDS, DEFINITIONS: (*STANDS, found(""))}, play)


@pytest.mark.parametrize(
    ("cluster", "left"),
    [
        ((found("k1"),), set()),
        ((found("k1"), found("k2")), {"c1", "c2"}),
        ((found("k1"), found("")), {"c1", "c2"}),
        ((refuse(403),), set()),
    ],
)
def test_a_list_of_nothing_counts_only_if_the_cluster_is_the_same(
    cluster: tuple[Answer, ...], left: set[str]
) -> None:
    async def play(server: ScriptedServer, reflector: Reflector[Any]) -> None:
        await until(lambda: server.finished and reflector.health.orphans == len(left))
        await until(lambda: names(reflector) == left)

    script = (a_list(C1, C2), stream(event("ERROR", ERROR_410)), a_list(), stream(None))
    follow(Service, script, {NAMESPACES: cluster}, play, Selection())


def test_a_deletion_told_by_a_watch_counts_at_once_for_what_is_not_configuration() -> None:
    async def play(server: ScriptedServer, reflector: Reflector[Any]) -> None:
        await until(lambda: server.finished and names(reflector) == {"c2"})

    script = (a_list(C1, C2), stream(event("DELETED", C1), None))
    follow(Service, script, {NAMESPACES: (found("k1"), found(""))}, play, Selection())


def test_an_object_of_another_form_is_set_aside_and_told() -> None:
    wrong = {"metadata": obj("x", 5)["metadata"], "data": "no mapping"}
    scene = run(
        ends_with("+ns/a", "+ns/b"),
        a_list(obj("a", 1), wrong),
        stream(event("ADDED", obj("b", 15)), None),
    )
    assert scene.data() == {"a": {}, "b": {}}
    assert list(scene.reflector.health.set_aside) == ["ns/x"]


def test_an_object_set_aside_heals_or_goes_by_a_later_event() -> None:
    wrong = {"metadata": obj("x", 5)["metadata"], "data": "no mapping"}
    gone = {"metadata": obj("y", 6)["metadata"], "data": 7}

    async def play(scene: Scene) -> None:
        await until(lambda: set(scene.reflector.health.set_aside) == {"ns/x", "ns/y"})
        assert "Expected `object`" in scene.reflector.health.set_aside["ns/x"]
        scene.server.script(stream(event("MODIFIED", obj("x", 16)), event("DELETED", gone), None))
        await scene.ends_with("+ns/x")
        await until(lambda: not scene.reflector.health.set_aside)

    run(play, a_list(wrong, gone), stream())


def test_fields_of_the_future_are_passed_over() -> None:
    future = obj("a", 1, x="1") | {"sparkle": {"deep": [1]}, "apiVersion": "v1"}
    assert run(ends_with("+ns/a"), a_list(future), stream(None)).data() == {"a": {"x": "1"}}


def test_streams_that_the_server_never_ends_are_left_and_resumed() -> None:
    policy = Policy(
        watch_seconds=0.0,
        watch_grace_seconds=0.05,
        healthy_stream_seconds=0.0,
        backoff=QUICK.backoff,
    )
    scene = run(ends_with(), a_list(), stream(None), stream(None), stream(None), policy=policy)
    assert scene.reflector.health.watches >= 3


def test_a_watch_that_falls_silent_is_asked_for_anew_where_it_was() -> None:
    policy = Policy(
        watch_idle_seconds=0.2, healthy_stream_seconds=0.0, backoff=QUICK.backoff, page_items=2
    )
    scene = run(
        ends_with("+ns/a", "+ns/b"),
        a_list(obj("a", 1)),
        stream(event("BOOKMARK", {"metadata": {"resourceVersion": "15"}}), None),
        a_list(obj("a", 1), version="15", token="more"),
        stream(event("ADDED", obj("b", 16)), None),
        policy=policy,
    )
    assert scene.server.seen[2].query["limit"] == "1"
    assert scene.server.seen[3].query["resourceVersion"] == "15"
    assert scene.reflector.health.lists == 1


def test_a_silent_server_whose_versions_went_back_is_listed_anew() -> None:
    policy = Policy(watch_idle_seconds=0.2, backoff=QUICK.backoff, page_items=2)
    run(
        ends_with("+ns/a", "+ns/b", "-ns/a"),
        a_list(obj("a", 1), version="100"),
        stream(None),
        a_list(version="7"),
        a_list(obj("b", 6), version="7"),
        stream(None),
        policy=policy,
    )


def test_a_watch_that_is_never_answered_is_a_trouble() -> None:
    async def silence(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def play(scene: Scene) -> None:
        await until(lambda: scene.reflector.health.trouble == "unreachable")
        assert "no answer in time" in scene.reflector.health.error
        assert scene.data() == {"a": {}}

    run(play, a_list(obj("a", 1)), silence)


def test_an_endless_line_ends_the_stream_and_is_told() -> None:
    async def play(scene: Scene) -> None:
        await until(lambda: scene.server.finished)
        await until(lambda: scene.reflector.health.watches == 2)
        assert scene.reflector.health.trouble == "stream-cut"
        assert "longer than" in scene.reflector.health.error

    policy = Policy(healthy_stream_seconds=9, backoff=QUICK.backoff)
    endless = stream(b'{"type":"ADDED","object":{"data":"' + b"x" * (17 << 20), None)
    run(play, a_list(obj("a", 1)), endless, stream(None), policy=policy)


def test_several_kinds_are_started_and_awaited_together() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(a_list(obj("a", 1)), a_list(), stream(None), stream(None))
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            clock, entropy = SystemClock(), SystemEntropy()
            async with KubeClient(config) as client, Supervisor(clock, entropy) as tasks:
                informers = Informers(client, clock, entropy)
                informers.add(ConfigMap, policy=QUICK, guard=None)
                informers.add(Service, policy=QUICK, guard=None)
                with pytest.raises(ValueError, match="Service is followed already"):
                    informers.add(Service)
                assert list(informers.unsynced()) == ["ConfigMap", "Service"]
                informers.start(tasks)
                async with asyncio.timeout(5):
                    await informers.wait_synced()
                assert informers.synced
                assert [health.kind for health in informers.health] == ["ConfigMap", "Service"]
                held = len(informers.store(ConfigMap)) + len(informers.store(Service))
                assert held == 1

    asyncio.run(main())


def test_kinds_that_are_not_waited_for_may_come_later() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(a_list(obj("a", 1)), stream(None))
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            clock, entropy = SystemClock(), SystemEntropy()
            async with KubeClient(config) as client, Supervisor(clock, entropy) as tasks:
                informers = Informers(client, clock, entropy)
                read = informers.add(ConfigMap, policy=QUICK, guard=None)
                informers.add(Service, policy=QUICK, guard=None)
                tasks.start("one of two", read.run)
                async with asyncio.timeout(5):
                    await informers.wait_synced(besides=[Service])
                assert list(informers.unsynced()) == ["Service"]

    asyncio.run(main())
