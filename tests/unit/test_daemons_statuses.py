"""Status objects of one node: named by what they are about, kept true, nobody else's touched."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.daemons.statuses import (
    Statuses,
    service_of,
    slimmed,
    status_name,
)
from clarion.daemons.writer import Writer
from clarion.decide.elect import L2Decision
from clarion.decide.plan import ServicePlan
from clarion.model.annotations import (
    LABEL_NODE,
    LABEL_SERVICE_NAME,
    LABEL_SERVICE_NAMESPACE,
)
from clarion.model.core import Node
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import (
    InterfaceInfo,
    ServiceBGPStatus,
    ServiceBGPStatusStatus,
    ServiceL2Status,
    ServiceL2StatusStatus,
)
from clarion.testing import builders
from clarion.testing.memoryapi import Call, MemoryClient

from .daemons_kit import SYSTEM, Writing, run, until

WEB = ObjectKey("shop", "web")
Stores = Mapping[type[KubeObject], dict[ObjectKey, KubeObject]]


class Scene:
    """Node `me` keeps its statuses in an API whose changes it sees when `see` is called."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.client = MemoryClient()
        self.l2: dict[ObjectKey, ServiceL2Status] = {}
        self.bgp: dict[ObjectKey, ServiceBGPStatus] = {}
        node = builders.node("me")
        nodes: dict[ObjectKey, Node] = {ObjectKey("", "me"): node}
        self.statuses = Statuses(self.client, writer, SYSTEM, "me", self.l2, self.bgp, nodes)
        self.wrong: list[ObjectKey] = []

    async def see(self) -> None:
        """All writes end, and the watch tells of them."""
        await until(lambda: self.writer.idle)
        self.client.deliver(self._seen)

    def _seen(self, of: type[KubeObject], key: ObjectKey, new: KubeObject | None) -> None:
        store: dict[ObjectKey, KubeObject] = self.l2 if of is ServiceL2Status else self.bgp  # type: ignore[assignment]
        old = store.pop(key, None)
        if new is not None:
            store[key] = new
        again = self.statuses.observe(old, new)
        if again is not None:
            self.wrong.append(again)

    def report(
        self, owner: str = "", *peers: str, interfaces: tuple[str, ...] | None = None
    ) -> None:
        l2 = L2Decision(owner=owner, announced=bool(owner), interfaces=interfaces)
        addresses = (parse_address("192.0.2.1"),)
        plan = ServicePlan(service=WEB, addresses=addresses, pool="p", l2=l2)
        self.statuses.report(WEB, plan, peers)

    def calls(self) -> list[tuple[str, str]]:
        """What was written since the last time."""
        found = [(call.verb, call.kind) for call in self.client.calls]
        self.client.calls.clear()
        return found


def play(scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Writing() as writer:
            await scene(Scene(writer))

    run(main)


def l2_status(name: str, node: str) -> ServiceL2Status:
    labels = {
        LABEL_NODE: node,
        LABEL_SERVICE_NAME: WEB.name,
        LABEL_SERVICE_NAMESPACE: WEB.namespace,
    }
    return ServiceL2Status(
        metadata=ObjectMeta(name=name, namespace=SYSTEM, labels=labels),
        status=ServiceL2StatusStatus(node=node, service_name="web", service_namespace="shop"),
    )


def test_names_follow_from_node_and_service() -> None:
    name = status_name("l2", "me", WEB)
    assert name == status_name("l2", "me", WEB)
    others = [
        status_name("bgp", "me", WEB),
        status_name("l2", "you", WEB),
        status_name("l2", "me", ObjectKey("shop", "api")),
    ]
    assert len({name, *others}) == 4


def test_a_service_has_one_object_of_each_kind_with_the_labels_that_users_select_by() -> None:
    async def scene(scene: Scene) -> None:
        scene.report("me", "bird", "frr", interfaces=("eth0", "eth1"))
        await scene.see()
        (l2,), (bgp,) = scene.l2.values(), scene.bgp.values()
        assert l2.metadata.name == status_name("l2", "me", WEB)
        assert l2.metadata.labels[LABEL_NODE] == "me"
        assert service_of(l2) == service_of(bgp) == WEB
        assert l2.status is not None
        assert [item.name for item in l2.status.interfaces] == ["eth0", "eth1"]
        assert bgp.status == ServiceBGPStatusStatus(
            node="me", service_name="web", service_namespace="shop", peers=("bird", "frr")
        )
        (owner,) = bgp.metadata.owner_references
        assert (owner.kind, owner.name) == ("Node", "me")
        assert scene.wrong == []

    play(scene)


def test_what_is_as_wanted_is_not_written_again() -> None:
    async def scene(scene: Scene) -> None:
        scene.report("me", "frr")
        await scene.see()
        told = [("create", "ServiceBGPStatus"), ("create", "ServiceL2Status")]
        told += [("patch", "ServiceBGPStatus"), ("patch", "ServiceL2Status")]
        assert sorted(scene.calls()) == told, "nothing is asked for that is known not to be there"
        scene.report("me", "frr")
        await scene.see()
        assert scene.calls() == []
        scene.report("me", "frr", interfaces=("eth0",))
        await scene.see()
        assert scene.calls() == [("patch", "ServiceL2Status")]
        scene.report("me", "frr")
        await scene.see()
        (l2,) = scene.l2.values()
        assert l2.status is not None
        assert l2.status.interfaces == (), "a merge must not keep what is left out"
        scene.report("", "frr")
        await scene.see()
        assert (scene.l2, len(scene.bgp)) == ({}, 1)

    play(scene)


def test_a_service_that_is_gone_leaves_nothing() -> None:
    async def scene(scene: Scene) -> None:
        scene.report("me", "frr")
        await scene.see()
        scene.statuses.report(WEB, None, ())
        await scene.see()
        assert (scene.l2, scene.bgp) == ({}, {})
        scene.calls()
        scene.statuses.report(WEB, None, ())
        await scene.see()
        assert scene.calls() == []

    play(scene)


def test_an_object_of_which_the_watch_has_not_told_yet_is_brought_up_to_date() -> None:
    async def scene(scene: Scene) -> None:
        earlier = l2_status(status_name("l2", "me", WEB), "another")
        scene.client.put(earlier)
        scene.report("me")
        await scene.see()
        assert scene.client.read(ServiceL2Status, earlier.key).status.node == "me"

    play(scene)


def test_a_change_of_mind_while_a_write_is_under_way_wins() -> None:
    async def scene(scene: Scene) -> None:
        def meanwhile(call: Call) -> None:
            if call.verb == "create":
                scene.report("", "frr")

        scene.client.before_write = meanwhile
        scene.report("me", "frr")
        await scene.see()
        assert scene.l2 == {}
        assert len(scene.bgp) == 1

    play(scene)


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_what_somebody_else_did_to_our_object_is_repaired(damage: str) -> None:
    async def scene(scene: Scene) -> None:
        scene.report("me", "frr")
        await scene.see()
        (key,) = scene.bgp
        if damage == "deleted":
            scene.client.drop(ServiceBGPStatus, key)
        else:
            scene.client.change(ServiceBGPStatus, key, {"status": {"peers": ["nobody"]}})
        await scene.see()
        assert scene.wrong == [WEB]
        scene.report("me", "frr")
        await scene.see()
        status = scene.bgp[key].status
        assert status is not None
        assert status.peers == ("frr",)
        assert scene.wrong == [WEB]

    play(scene)


def test_the_owner_clears_what_earlier_owners_left_and_nobody_else_does() -> None:
    async def scene(scene: Scene) -> None:
        scene.client.put(l2_status("l2-old", "dead-node"))
        await scene.see()
        scene.report("another", "frr")
        await scene.see()
        assert ObjectKey(SYSTEM, "l2-old") in scene.l2
        scene.report("me")
        await scene.see()
        assert list(scene.l2) == [ObjectKey(SYSTEM, status_name("l2", "me", WEB))]
        scene.calls()
        scene.report("me", interfaces=("eth0",))
        await scene.see()
        assert ("delete", "ServiceL2Status") not in scene.calls()

    play(scene)


def test_what_an_earlier_program_left_under_our_name_goes() -> None:
    async def scene(scene: Scene) -> None:
        scene.client.put(l2_status("l2-x7k2p", "me"))
        await scene.see()
        assert scene.wrong == [WEB]
        scene.report("another")
        await scene.see()
        assert scene.l2 == {}

    play(scene)


def test_what_was_told_before_the_start_is_told_anew() -> None:
    async def scene(scene: Scene) -> None:
        scene.client.put(l2_status(status_name("l2", "me", WEB), "me"))
        scene.client.put(l2_status("l2-other", "other"))
        await scene.see()
        assert scene.wrong == [WEB]

    play(scene)


def test_what_is_kept_of_a_status_decides_like_the_whole() -> None:
    whole = msgspec.structs.replace(
        l2_status("l2-x7k2p", "me"),
        status=ServiceL2StatusStatus(
            node="me",
            service_name="web",
            service_namespace="shop",
            interfaces=(InterfaceInfo(name="eth0"),),
        ),
    )
    bgp = ServiceBGPStatus(
        metadata=whole.metadata,
        status=ServiceBGPStatusStatus(
            node="me", service_name="web", service_namespace="shop", peers=("bird", "frr")
        ),
    )
    for item, kept in ((whole, slimmed(whole)), (bgp, slimmed(bgp))):
        assert (kept.key, kept.status) == (item.key, item.status)
        assert service_of(kept) == WEB
        assert kept.metadata.labels == item.metadata.labels
    bare = slimmed(ServiceL2Status(metadata=ObjectMeta(name="l2-x", namespace=SYSTEM)))
    assert service_of(bare) == ObjectKey("", "")
