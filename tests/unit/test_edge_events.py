"""Events: counted, bounded, never in the way; against a server that answers by script."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clarion.base import limits
from clarion.edge.clock import SystemEntropy
from clarion.edge.credentials import Identity, StaticCredentials
from clarion.edge.events import EventRecorder
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import KubeConfig
from clarion.model.core import Node, Service
from clarion.model.meta import ObjectMeta
from clarion.testing.scripted import Answer, ScriptedServer, refuse, reply

WEB = Service(metadata=ObjectMeta(namespace="shop", name="web", uid="u1", resource_version="5"))
STORED = reply({"metadata": {"name": "e", "namespace": "shop"}})


class FakeClock:
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


class FakeEntropy(SystemEntropy):
    """No waiting between attempts."""

    def random(self) -> float:
        return -1.0


class Scene:
    def __init__(self, client: KubeClient) -> None:
        self.clock = FakeClock()
        self.recorder = EventRecorder(
            client, "metallb-speaker", self.clock, FakeEntropy(), host="n1"
        )

    def assigned(self, message: str = "announcing", about: Any = WEB) -> None:
        self.recorder.record(about, "Normal", "nodeAssigned", message)


def run(
    play: Callable[[Scene], Awaitable[None]], *answers: Answer
) -> list[tuple[str, str, dict[str, Any]]]:
    """What a scene makes the server see: method, path, body."""

    async def main() -> list[tuple[str, str, dict[str, Any]]]:
        async with ScriptedServer() as server:
            server.script(*answers)
            config = KubeConfig(server.url, StaticCredentials(Identity()))
            async with KubeClient(config) as client:
                await play(Scene(client))
            assert not server.beyond
            return [(seen.method, seen.path, json.loads(seen.body)) for seen in server.seen]

    return asyncio.run(main())


def test_an_event_has_the_form_that_kubectl_reads() -> None:
    async def play(scene: Scene) -> None:
        scene.assigned()
        await scene.recorder.flush()

    ((method, path, body),) = run(play, STORED)
    assert (method, path) == ("POST", "/api/v1/namespaces/shop/events")
    name = body["metadata"].pop("name")
    assert name.startswith("web.")
    assert body == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "shop"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "shop",
            "name": "web",
            "uid": "u1",
            "resourceVersion": "5",
        },
        "type": "Normal",
        "reason": "nodeAssigned",
        "message": "announcing",
        "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "source": {"component": "metallb-speaker", "host": "n1"},
        "reportingComponent": "metallb-speaker",
        "reportingInstance": "n1",
    }


def test_repeats_are_counted_while_waiting_and_after_writing() -> None:
    async def play(scene: Scene) -> None:
        scene.assigned()
        scene.assigned()
        assert scene.recorder.waiting == 1
        await scene.recorder.flush()
        scene.clock.at = 60
        for _ in range(3):
            scene.assigned()
        await scene.recorder.flush()

    first, second = run(play, STORED, STORED)
    assert first[2]["count"] == 2
    assert second[0] == "PATCH"
    assert second[1] == f"/api/v1/namespaces/shop/events/{first[2]['metadata']['name']}"
    assert second[2] == {"count": 5, "lastTimestamp": "2026-01-01T00:01:00Z"}


@pytest.mark.parametrize("forgotten", [True, False])
def test_an_event_is_new_after_the_window_or_when_the_server_forgot_it(forgotten: bool) -> None:
    async def play(scene: Scene) -> None:
        scene.assigned()
        await scene.recorder.flush()
        scene.clock.at = 60 if forgotten else limits.EVENT_WINDOW_SECONDS + 1
        scene.assigned()
        await scene.recorder.flush()

    seen = run(play, STORED, *([refuse(404)] if forgotten else []), STORED)
    assert (seen[-1][0], seen[-1][2]["count"]) == ("POST", 1)


def test_another_message_is_another_event() -> None:
    async def play(scene: Scene) -> None:
        scene.assigned("one")
        scene.assigned("two")
        await scene.recorder.flush()

    assert [body["message"] for _, _, body in run(play, STORED, STORED)] == ["one", "two"]


def test_an_object_may_have_a_burst_and_then_few() -> None:
    async def play(scene: Scene) -> None:
        for number in range(limits.EVENT_BURST + 5):
            scene.assigned(f"message {number}")
        assert scene.recorder.waiting == limits.EVENT_BURST
        assert scene.recorder.counts.dropped == 5
        other = Node(metadata=ObjectMeta(name="n1"))
        scene.assigned(about=other)
        assert scene.recorder.waiting == limits.EVENT_BURST + 1
        scene.clock.at = limits.EVENT_REFILL_SECONDS
        scene.assigned("later")
        scene.assigned("too soon")
        assert scene.recorder.waiting == limits.EVENT_BURST + 2

    run(play)


def test_while_the_api_is_away_the_oldest_are_dropped_and_the_rest_arrive() -> None:
    async def play(scene: Scene) -> None:
        for number in range(limits.EVENT_QUEUE_MAX + 3):
            about = Service(metadata=ObjectMeta(namespace="shop", name=f"s{number}"))
            scene.assigned(about=about)
        assert scene.recorder.waiting == limits.EVENT_QUEUE_MAX
        assert scene.recorder.counts.dropped == 3
        await scene.recorder.flush()
        assert scene.recorder.counts.written == limits.EVENT_QUEUE_MAX

    away = [refuse(503), refuse(429)]
    seen = run(play, *away, *[STORED] * limits.EVENT_QUEUE_MAX)
    names = [body["involvedObject"]["name"] for _, _, body in seen]
    assert names[:4] == ["s3", "s3", "s3", "s4"]


@pytest.mark.parametrize("answer", [refuse(403, "Forbidden"), reply(b"<html>")])
def test_what_is_refused_or_answered_with_nonsense_is_not_tried_again(answer: Answer) -> None:
    async def play(scene: Scene) -> None:
        scene.assigned()
        await scene.recorder.flush()
        assert (scene.recorder.counts.failed, scene.recorder.waiting) == (1, 0)

    run(play, answer)


def test_long_messages_are_cut_between_characters_and_cluster_wide_objects_have_a_place() -> None:
    async def play(scene: Scene) -> None:
        scene.assigned("ä" * 2000, about=Node(metadata=ObjectMeta(name="n1")))
        await scene.recorder.flush()

    ((_, path, body),) = run(play, STORED)
    assert path == "/api/v1/namespaces/default/events"
    assert len(body["message"].encode()) <= limits.EVENT_MESSAGE_BYTES
    assert body["message"].endswith("ä...")


def test_the_background_task_writes_what_is_recorded() -> None:
    async def play(scene: Scene) -> None:
        task = asyncio.create_task(scene.recorder.run())
        scene.assigned()
        async with asyncio.timeout(5):
            while scene.recorder.counts.written == 0:  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])

    run(play, STORED)
