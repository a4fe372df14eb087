"""The reflector over real HTTP against a server that misbehaves by script."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.kubeclient import KubeClient, Selection
from clarion.edge.kubeconfig import Identity, KubeConfig, StaticCredentials
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


def served(*verbs: str) -> Answer:
    """The discovery of metallb.io/v1beta1 with communities and what may be done to them."""
    return reply(
        {"kind": "APIResourceList", "resources": [{"name": "communities", "verbs": verbs}]}
    )


@pytest.mark.parametrize(
    ("discovery", "left"),
    [
        ([served("get", "list", "create")], {"c2"}),
        ([served("get", "list", "delete")], {"c1", "c2"}),
        ([reply({"resources": []})], {"c1", "c2"}),
        ([refuse(404)], {"c1", "c2"}),
        ([refuse(500), served("create")], {"c2"}),
    ],
)
def test_a_deletion_of_a_custom_object_stands_only_if_its_kind_does(
    discovery: list[Answer], left: set[str]
) -> None:
    c1, c2 = ({"metadata": obj(name, 1)["metadata"]} for name in ("c1", "c2"))

    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(a_list(c1, c2), stream(event("DELETED", c1), None), *discovery)
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            async with KubeClient(config) as client:
                reflector = Reflector(
                    client,
                    Community,
                    SystemClock(),
                    SystemEntropy(),
                    policy=QUICK,
                    guard=GuardPolicy(hold=0.01, retry=0.01),
                )
                task = asyncio.create_task(reflector.run())
                kept = len(left) - 1
                await until(lambda: server.finished and reflector.health.orphans == kept)
                await until(lambda: len(reflector.store) == len(left))
                assert {key.name for key in reflector.store} == left
                task.cancel()
                await asyncio.wait([task])
            assert not server.beyond

    asyncio.run(main())


def test_an_object_of_another_form_is_set_aside_and_told() -> None:
    wrong = {"metadata": obj("x", 5)["metadata"], "data": "no mapping"}
    scene = run(
        ends_with("+ns/a", "+ns/b"),
        a_list(obj("a", 1), wrong),
        stream(event("ADDED", obj("b", 15)), None),
    )
    assert scene.data() == {"a": {}, "b": {}}
    assert list(scene.reflector.health.set_aside) == ["ns/x"]


def test_streams_that_the_server_never_ends_are_left_and_resumed() -> None:
    policy = Policy(
        watch_seconds=0.0,
        watch_grace_seconds=0.05,
        healthy_stream_seconds=0.0,
        backoff=QUICK.backoff,
    )
    scene = run(ends_with(), a_list(), stream(None), stream(None), stream(None), policy=policy)
    assert scene.reflector.health.watches >= 3


def test_several_kinds_are_started_and_awaited_together() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(a_list(obj("a", 1)), a_list(), stream(None), stream(None))
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            clock, entropy = SystemClock(), SystemEntropy()
            async with KubeClient(config) as client, Supervisor(clock, entropy) as tasks:
                informers = Informers(client, clock, entropy)
                informers.add(ConfigMap, policy=QUICK)
                informers.add(Service, policy=QUICK)
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
