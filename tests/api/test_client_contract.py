"""What our client and reflector rely on, shown on both API servers with kubectl as second actor."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from clarion.edge import kubeclient as k
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.events import EventRecorder
from clarion.edge.leases import Heartbeat, LeaderElection
from clarion.edge.reflector import Reflector
from clarion.model import kinds
from clarion.model.core import ConfigMap, Event, Lease, Namespace, Service, ServicePort, ServiceSpec
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import Community
from clarion.proto.kube.backoff import BackoffPolicy
from clarion.proto.kube.leases import ElectionPolicy
from clarion.proto.kube.reflector import Policy
from clarion.proto.kube.wire import decode_frame, decode_page

from .sides import Side

QUICK = Policy(page_items=2, backoff=BackoffPolicy(base=0.02, cap=0.1))
CLOCK, ENTROPY = SystemClock(), SystemEntropy()


@pytest.fixture(scope="session")
def server(quick_api: Side) -> Side:
    return quick_api


@pytest.fixture
def namespace(server: Side) -> Iterator[str]:
    name = f"contract-{ENTROPY.token(6)}"
    server.kubectl("create", "namespace", name)
    yield name
    server.kubectl("delete", "namespace", name, "--wait=false")


def play(server: Side, scene: Callable[[k.KubeClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), server.client() as client:
            await scene(client)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what a server did has no event here
            await asyncio.sleep(0.01)


async def kubectl(server: Side, *arguments: str, stdin: str | None = None) -> str:
    return await asyncio.to_thread(server.kubectl, *arguments, stdin=stdin)


def config_map(namespace: str, name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(namespace=namespace, name=name), data=data)


# --- requests -----------------------------------------------------------------------------------


def test_objects_are_written_read_and_deleted(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        made = await client.create(config_map(namespace, "a", x="1"))
        assert made.metadata.uid
        assert made.metadata.resource_version
        assert await client.get(ConfigMap, made.key) == made
        with pytest.raises(k.AlreadyExistsError):
            await client.create(config_map(namespace, "a"))
        assert "x: " in await kubectl(server, "-n", namespace, "get", "cm", "a", "-o", "yaml")
        with pytest.raises(k.ConflictError):
            await client.delete(ConfigMap, made.key, uid="00000000-0000-0000-0000-000000000000")
        await client.delete(ConfigMap, made.key, uid=made.metadata.uid)
        for act in (client.get(ConfigMap, made.key), client.delete(ConfigMap, made.key)):
            with pytest.raises(k.NotFoundError) as caught:
                await act
            assert caught.value.reason == "NotFound"

    play(server, scene)


def test_a_write_from_an_old_version_conflicts(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        old = await client.create(config_map(namespace, "a", x="1"))
        await kubectl(server, "-n", namespace, "label", "cm", "a", "touched=yes")
        patch = {"metadata": {"resourceVersion": old.metadata.resource_version}, "data": {"x": "2"}}
        with pytest.raises(k.ConflictError) as caught:
            await client.patch(ConfigMap, old.key, patch)
        assert caught.value.reason == "Conflict"
        with pytest.raises(k.ConflictError):
            await client.update(old)
        new = await client.patch(ConfigMap, old.key, {"data": {"x": "3"}})
        assert (new.data, new.metadata.labels["touched"]) == ({"x": "3"}, "yes")
        gone = await client.patch(ConfigMap, old.key, {"data": {"x": None}})
        assert gone.data == {}

    play(server, scene)


def test_each_form_of_patch(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        key = (await client.create(config_map(namespace, "a", x="1"))).key
        step = [{"op": "replace", "path": "/data/x", "value": "2"}]
        assert (await client.patch(ConfigMap, key, step, how=k.PatchType.JSON)).data["x"] == "2"
        wrong = [{"op": "test", "path": "/data/x", "value": "9"}]
        with pytest.raises(k.ApiError):
            await client.patch(ConfigMap, key, wrong, how=k.PatchType.JSON)
        kept = await client.patch(ConfigMap, key, {"data": {"x": "5"}}, dry_run=True)
        assert kept.data["x"] == "5"
        assert (await client.get(ConfigMap, key)).data["x"] == "2"

    play(server, scene)


def test_server_side_apply(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        async def apply(manager: str, *, force: bool = False, **data: str) -> dict[str, str]:
            whole = config_map(namespace, "applied", **data)
            how = k.PatchType.APPLY
            done = await client.patch(
                ConfigMap, whole.key, whole, how=how, field_manager=manager, force=force
            )
            return done.data

        assert await apply("one", x="1", y="1") == {"x": "1", "y": "1"}
        with pytest.raises(k.ConflictError):
            await apply("two", y="2")
        assert await apply("two", force=True, y="2") == {"x": "1", "y": "2"}
        assert await apply("one") == {"y": "2"}, "what a manager no longer names goes"

    play(server, scene)


def test_status_is_written_apart_from_the_rest(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        spec = ServiceSpec(type="LoadBalancer", ports=(ServicePort(port=80),))
        meta = ObjectMeta(namespace=namespace, name="web")
        service = await client.create(Service(metadata=meta, spec=spec))
        assert service.spec.cluster_ip
        ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        both = {"status": ingress, "spec": {"sessionAffinity": "ClientIP"}}
        told = await client.patch(Service, service.key, both, subresource="status")
        assert told.status.load_balancer.ingress[0].ip == "192.0.2.1"
        assert told.spec == service.spec
        assert told.status.load_balancer.ingress[0].ip_mode == "VIP", "as a cluster completes it"
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        assert (
            await kubectl(server, "-n", namespace, "get", "svc", "web", "-o", path) == "192.0.2.1"
        )
        await client.patch(Service, service.key, {"status": {"loadBalancer": None}})
        again = await client.get(Service, service.key)
        assert again.status == told.status, "a status is not written through the object"

    play(server, scene)


def test_what_is_invalid_is_refused_with_its_fields(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        meta = ObjectMeta(namespace=namespace, name="Not A Name")
        with pytest.raises(k.InvalidError) as caught:
            await client.create(ConfigMap(metadata=meta))
        assert [cause.field for cause in caught.value.causes] == ["metadata.name"]

    play(server, scene)


# --- lists and watches --------------------------------------------------------------------------


def test_pages_of_one_list_agree(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        for name in "abcde":
            await client.create(config_map(namespace, name, made="before"))
        where = k.Selection(namespace, labels="!unrelated")
        first = decode_page(await client.list_page(kinds.CONFIG_MAP, where, 2))
        assert len(first.items) == 2
        await kubectl(server, "-n", namespace, "delete", "cm", "d")
        await client.create(config_map(namespace, "zz", made="after"))
        names, page = [], first
        while page.token:
            page = decode_page(await client.list_page(kinds.CONFIG_MAP, where, 2, page.token))
            assert page.version == first.version
            names += [json.loads(bytes(raw))["metadata"]["name"] for raw in page.items]
        assert "d" in names
        assert "zz" not in names
        with pytest.raises(k.ApiError) as caught:
            await client.list_page(kinds.CONFIG_MAP, where, 2, "not-a-token")
        assert caught.value.status == 400

    play(server, scene)


def test_selectors_select(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        for name in "ab":
            await client.create(config_map(namespace, name))
        await kubectl(server, "-n", namespace, "label", "cm", "b", "zone=east")
        by_label = await client.list_all(ConfigMap, k.Selection(namespace, labels="zone=east"))
        by_name = await client.list_all(ConfigMap, k.Selection(namespace, fields="metadata.name=a"))
        assert [found.name for found in by_label] == ["b"]
        assert [found.name for found in by_name] == ["a"]

    play(server, scene)


async def frames(
    client: k.KubeClient, where: k.Selection, version: str, seconds: int
) -> list[tuple[str, dict[str, Any]]]:
    """All that a watch of ConfigMaps tells until the server ends it."""
    data = b""
    async with client.watch(kinds.CONFIG_MAP, where, version, seconds) as chunks:
        async for chunk in chunks:
            data += chunk
    told = [decode_frame(line) for line in data.splitlines()]
    return [(frame.type, json.loads(bytes(frame.object))) for frame in told]


def test_a_watch_tells_all_after_its_version_and_the_server_ends_it_in_time(
    server: Side, namespace: str
) -> None:
    async def scene(client: k.KubeClient) -> None:
        where = k.Selection(namespace, fields="metadata.name=a")
        start = decode_page(await client.list_page(kinds.CONFIG_MAP, where, 0)).version
        made = await client.create(config_map(namespace, "a", x="1"))
        changed = await client.patch(ConfigMap, made.key, {"data": {"x": "2"}})
        await client.delete(ConfigMap, made.key)
        told = await frames(client, where, start, 1)
        assert [kind for kind, _ in told if kind != "BOOKMARK"] == ["ADDED", "MODIFIED", "DELETED"]
        versions = [obj["metadata"]["resourceVersion"] for _, obj in told]
        assert versions[:2] == [made.metadata.resource_version, changed.metadata.resource_version]
        assert int(versions[2]) > int(versions[1]), "a deletion has a version of its own"
        later = await frames(client, where, versions[0], 1)
        assert [kind for kind, _ in later if kind != "BOOKMARK"] == ["MODIFIED", "DELETED"]

    play(server, scene)


def test_a_quiet_watch_is_told_bookmarks(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        where = k.Selection(namespace, fields="metadata.name=nothing")
        start = decode_page(await client.list_page(kinds.CONFIG_MAP, where, 0)).version
        other = await client.create(config_map(namespace, "elsewhere"))
        # The real one tells a bookmark two seconds before the end of a watch.
        told = await frames(client, where, start, 1 if server.name == "embedded" else 4)
        assert {kind for kind, _ in told} == {"BOOKMARK"}
        last = told[-1][1]["metadata"]["resourceVersion"]
        assert int(last) >= int(other.metadata.resource_version)

    play(server, scene)


# --- the reflector ------------------------------------------------------------------------------


@asynccontextmanager
async def following(
    client: k.KubeClient, of: type[Any], where: k.Selection
) -> AsyncIterator[tuple[Reflector[Any], list[str]]]:
    deltas: list[str] = []

    def on_delta(
        _kind: kinds.Kind, key: ObjectKey, old: KubeObject | None, new: KubeObject | None
    ) -> None:
        deltas.append(("+" if old is None else "-" if new is None else "~") + key.name)

    reflector = Reflector(
        client, of, CLOCK, ENTROPY, on_delta=on_delta, selection=where, policy=QUICK
    )
    task = asyncio.create_task(reflector.run())
    try:
        async with asyncio.timeout(20):
            await reflector.synced.wait()
        yield reflector, deltas
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_what_kubectl_does_is_followed(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        where = k.Selection(namespace, labels="!kube-root")
        async with following(client, Community, where) as (reflector, deltas):
            manifest = {
                "apiVersion": "metallb.io/v1beta1",
                "kind": "Community",
                "metadata": {"name": "c1"},
                "spec": {"communities": [{"name": "a", "value": "64512:1"}]},
            }
            on = ("-n", namespace)
            await kubectl(server, *on, "apply", "-f", "-", stdin=json.dumps(manifest))
            await until(lambda: deltas == ["+c1"])
            await kubectl(server, *on, "label", "community", "c1", "zone=east")
            await until(lambda: deltas == ["+c1", "~c1"])
            held = reflector.store[ObjectKey(namespace, "c1")]
            assert held.metadata.labels == {"zone": "east"}
            assert held.spec.communities[0].value == "64512:1"
            await kubectl(server, *on, "delete", "community", "c1")
            await until(lambda: deltas == ["+c1", "~c1", "-c1"])

    play(server, scene)


def test_a_kind_is_known_to_be_served_or_not(server: Side) -> None:
    async def scene(client: k.KubeClient) -> None:
        for kind in kinds.KINDS:
            assert await client.serves(kind), kind.kind
        gone = msgspec.structs.replace(kinds.COMMUNITY, version="v9")
        assert not await client.serves(gone)
        assert not await client.serves(msgspec.structs.replace(kinds.COMMUNITY, plural="others"))

    play(server, scene)


def test_many_objects_come_by_pages(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        names = [f"m{number:02}" for number in range(25)]
        await asyncio.gather(*[client.create(config_map(namespace, name)) for name in names])
        async with following(client, ConfigMap, k.Selection(namespace)) as (reflector, _):
            assert {key.name for key in reflector.store} >= set(names)
            assert reflector.health.lists == 1

    play(server, scene)


def test_a_server_killed_and_restarted_loses_nothing(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        for name in "abc":
            await client.create(config_map(namespace, name))
        async with following(client, ConfigMap, k.Selection(namespace)) as (reflector, deltas):
            before = dict(reflector.store)
            deltas.clear()
            await asyncio.to_thread(server.kill)
            await until(lambda: reflector.health.trouble == "unreachable")
            assert reflector.store.snapshot() == before
            await asyncio.to_thread(server.start)
            await kubectl(server, "-n", namespace, "delete", "cm", "b")
            await until(lambda: deltas == ["-b"])
            assert reflector.health.trouble == ""

    play(server, scene)


class Line:
    """A connection to the server that can be cut and mended; only our client goes through it."""

    def __init__(self, server_url: str) -> None:
        scheme, _, where = server_url.partition("://")
        self._scheme, self._target = scheme, where.split(":")
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    async def mend(self) -> None:
        self._listener = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for writer in self._open:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()
        self._open.discard(writer)


async def compacted(client: k.KubeClient, where: k.Selection, version: str) -> bool:
    """Whether the server refuses to go on from a version, in either of the two ways."""
    try:
        told = await frames(client, where, version, 1)
    except k.GoneError:
        return True
    return any(kind == "ERROR" and status["code"] == 410 for kind, status in told)


def test_after_an_outage_longer_than_the_history_all_is_read_anew_by_differences(
    server: Side, namespace: str
) -> None:
    async def scene(client: k.KubeClient) -> None:
        where = k.Selection(namespace)
        line = Line(client.config.server)
        await line.mend()
        far = msgspec.structs.replace(client.config, server=line.url)
        for name in "abc":
            await client.create(config_map(namespace, name))
        async with (
            k.KubeClient(far) as cut_off,
            following(cut_off, ConfigMap, where) as (reflector, deltas),
        ):
            before = reflector.store.snapshot()
            deltas.clear()
            await line.cut()
            await until(lambda: reflector.health.trouble == "unreachable")
            await client.delete(ConfigMap, ObjectKey(namespace, "a"))
            await client.patch(ConfigMap, ObjectKey(namespace, "b"), {"data": {"x": "2"}})
            await client.create(config_map(namespace, "d"))
            await asyncio.to_thread(server.forget)
            while not await compacted(client, where, reflector.health.version):
                await client.create(config_map(namespace, ENTROPY.token(8)))
            assert reflector.store.snapshot() == before, "an outage removes nothing"
            extra = {found.name for found in await client.list_all(ConfigMap, where)}
            await line.mend()
            await until(lambda: "-a" in deltas)
            assert deltas.count("~b") == 1
            assert {name for name in deltas if name[0] == "+"} == {
                f"+{name}" for name in extra - {key.name for key in before}
            }
            assert not {"~c", "-c", "+c"} & set(deltas)
            assert reflector.health.lists == 2
        await line.cut()

    play(server, scene)


# --- leases and events --------------------------------------------------------------------------


def test_a_heartbeat_is_written_renewed_and_deleted(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        key = ObjectKey(namespace, "speaker-n1")
        beat = Heartbeat(client, key, "n1", CLOCK, labels={"a": "b"}, renew_seconds=0.05)
        renewals: set[str | None] = set()
        async with following(client, Lease, k.Selection(namespace)) as (reflector, _):
            task = asyncio.create_task(beat.run())

            def renewed() -> bool:
                if (found := reflector.store.get(key)) is not None:
                    renewals.add(found.spec.renew_time)
                return len(renewals) >= 3

            await until(renewed)
            shown = await kubectl(
                server, "-n", namespace, "get", "lease", "-l", "a=b", "-o", "wide"
            )
            assert re.search(r"speaker-n1\s+n1\b", shown)
            task.cancel()
            await asyncio.wait([task])
            await until(lambda: key not in reflector.store)

    play(server, scene)


def test_a_heartbeat_that_leaves_word_leaves_a_lease_without_a_holder(
    server: Side, namespace: str
) -> None:
    async def scene(client: k.KubeClient) -> None:
        key = ObjectKey(namespace, "speaker-n1")
        beat = Heartbeat(client, key, "n1", CLOCK, labels={"a": "b"}, renew_seconds=0.05)
        beat.annotations = {"word": "left"}
        beat.leaves_word = True
        async with following(client, Lease, k.Selection(namespace)) as (reflector, _):
            task = asyncio.create_task(beat.run())
            await until(lambda: key in reflector.store)
            first = reflector.store.get(key)
            assert first
            assert first.metadata.annotations == {"word": "left"}, "it tells from the beginning"
            task.cancel()
            await asyncio.wait([task])

            def left() -> bool:
                found = reflector.store.get(key)
                return found is not None and not found.spec.holder_identity

            await until(left)
            again = asyncio.create_task(beat.run())
            await until(lambda: not left())
            again.cancel()
            await asyncio.wait([again])

    play(server, scene)


def test_one_of_two_candidates_leads_and_hands_over_when_it_stops(
    server: Side, namespace: str
) -> None:
    policy = ElectionPolicy(lease_duration=30.0, renew_deadline=20.0, retry_period=0.05)

    async def scene(client: k.KubeClient) -> None:
        key = ObjectKey(namespace, "controller")
        told: list[tuple[str, bool]] = []

        def candidate(name: str) -> LeaderElection:
            return LeaderElection(
                client,
                key,
                name,
                CLOCK,
                ENTROPY,
                policy=policy,
                on_change=lambda leads: told.append((name, leads)),
            )

        candidates = {name: candidate(name) for name in ("one", "two")}
        one = asyncio.create_task(candidates["one"].run())
        await candidates["one"].wait_leading()
        two = asyncio.create_task(candidates["two"].run())
        await until(lambda: candidates["two"].leader == "one")
        assert not candidates["two"].leads
        one.cancel()
        await asyncio.wait([one])
        await candidates["two"].wait_leading()
        assert told == [("one", True), ("one", False), ("two", True)]
        shown = await kubectl(server, "-n", namespace, "get", "lease", "controller", "-o", "json")
        spec = json.loads(shown)["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)
        two.cancel()
        await asyncio.wait([two])

    play(server, scene)


def test_a_leader_whose_lease_is_taken_away_stops_leading(server: Side, namespace: str) -> None:
    policy = ElectionPolicy(lease_duration=30.0, renew_deadline=20.0, retry_period=0.05)

    async def scene(client: k.KubeClient) -> None:
        key = ObjectKey(namespace, "controller")
        candidate = LeaderElection(client, key, "one", CLOCK, ENTROPY, policy=policy)
        task = asyncio.create_task(candidate.run())
        await candidate.wait_leading()
        theft = json.dumps({"spec": {"holderIdentity": "thief"}})
        await kubectl(
            server, "-n", namespace, "patch", "lease", "controller", "--type=merge", "-p", theft
        )
        await until(lambda: not candidate.leads)
        task.cancel()
        await asyncio.wait([task])
        assert (await client.get(Lease, key)).spec.holder_identity == "thief"

    play(server, scene)


def test_events_are_seen_by_kubectl_and_repeats_are_counted(server: Side, namespace: str) -> None:
    async def scene(client: k.KubeClient) -> None:
        recorder = EventRecorder(client, "metallb-controller", CLOCK, ENTROPY, host="n1")
        about = await client.create(config_map(namespace, "web"))
        task = asyncio.create_task(recorder.run())
        recorder.record(about, "Normal", "IPAllocated", 'Assigned IP ["192.0.2.1"]')
        await until(lambda: recorder.counts.written == 1)
        for _ in range(3):
            recorder.record(about, "Normal", "IPAllocated", 'Assigned IP ["192.0.2.1"]')
        await until(lambda: recorder.counts.written == 2)
        (event,) = await client.list_all(Event, k.Selection(namespace))
        assert (event.count, event.type, event.reason) == (4, "Normal", "IPAllocated")
        assert (event.source.component, event.source.host) == ("metallb-controller", "n1")
        shown = await kubectl(server, "-n", namespace, "get", "events")
        assert "configmap/web" in shown
        assert 'Assigned IP ["192.0.2.1"]' in shown
        await client.delete(Event, event.key)
        recorder.record(about, "Normal", "IPAllocated", 'Assigned IP ["192.0.2.1"]')
        await until(lambda: recorder.counts.written == 3)
        assert (await client.list_all(Event, k.Selection(namespace)))[0].count == 1
        cluster_wide = await client.get(Namespace, ObjectKey("", namespace))
        recorder.record(cluster_wide, "Warning", "AllocationFailed", "no pool")
        await until(lambda: recorder.counts.written == 4)
        assert recorder.counts.failed == recorder.counts.dropped == 0
        task.cancel()
        await asyncio.wait([task])

    play(server, scene)
