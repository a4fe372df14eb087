"""The small parts of the programs: notices, translation, the Node, configuration states, start."""

import asyncio
from typing import Any

import pytest

from clarion.base.addr import parse_address, parse_prefix
from clarion.daemons.noderegistry import OwnNode, register_node
from clarion.daemons.notices import Notices
from clarion.daemons.runtime import default_namespace
from clarion.daemons.translate import bgp_route, peer_config
from clarion.decide.advertise import AdvertisedRoute, BGPDecision
from clarion.decide.config import EMPTY, build_config
from clarion.decide.elect import L2Decision
from clarion.decide.plan import ServicePlan
from clarion.decide.reasons import reason
from clarion.decide.settings import Peer
from clarion.decide.snapshot import Snapshot
from clarion.edge.credentials import Identity, StaticCredentials
from clarion.edge.events import EventRecorder
from clarion.edge.kubeclient import ForbiddenError, KubeClient, UnreachableError
from clarion.edge.kubeconfig import KubeConfig
from clarion.edge.logs import Log
from clarion.model.core import Namespace, Node, Service
from clarion.model.meta import ObjectKey, ObjectMeta
from clarion.proto.bgp.iana import IPV4_UNICAST, IPV6_UNICAST
from clarion.testing import builders
from clarion.testing.memoryapi import MemoryClient
from clarion.testing.scripted import ScriptedServer, cut, refuse, reply

from .daemons_kit import NoWaiting, StillClock, Writing, run, until

WEB = ObjectKey("default", "web")


# --- notices ---


class Recorded(EventRecorder):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        super().__init__(MemoryClient(), "metallb-speaker", StillClock(), NoWaiting(), host="me")

    def facts(self) -> list[tuple[str, str, str]]:
        """Type, reason and message of what was recorded since the last time."""
        found = [(i.type, i.reason, i.message) for i in self._waiting]
        self._waiting.clear()
        return found


def service_plan(owner: str = "", *, announced: bool = True) -> ServicePlan:
    reasons = () if announced else (reason("no-pools"),)
    l2 = L2Decision(owner=owner, announced=bool(owner) and announced, reasons=reasons)
    return ServicePlan(service=WEB, addresses=(parse_address("192.0.2.1"),), pool="p", l2=l2)


def assigned(protocol: str) -> tuple[str, str, str]:
    return "Normal", "nodeAssigned", f'announcing from node "me" with protocol "{protocol}"'


def test_an_event_tells_once_that_this_node_announces() -> None:
    events, web = Recorded(), builders.service("web")
    notices = Notices(events, "me")
    notices.report(WEB, web, service_plan("me"), ("frr",))
    assert events.facts() == [assigned("bgp"), assigned("layer2")]
    notices.report(WEB, web, service_plan("me"), ("frr", "bird"))
    assert events.facts() == []
    notices.report(WEB, web, service_plan("other"), ("frr",))
    assert events.facts() == []
    notices.report(WEB, web, service_plan("me"), ("frr",))
    assert events.facts() == [assigned("layer2")]


def test_an_owner_that_cannot_announce_says_why() -> None:
    events, web = Recorded(), builders.service("web")
    notices = Notices(events, "me")
    notices.report(WEB, web, service_plan("me", announced=False), ())
    ((kind, why, message),) = events.facts()
    assert (kind, why) == ("Warning", "announceFailed")
    assert message == reason("no-pools").text
    assert list(notices.samples()) == []


def test_a_node_kept_silent_by_two_local_preferences_says_so() -> None:
    events, web = Recorded(), builders.service("web")
    why = reason("bgp-local-pref-conflict", one="a", two="b")
    silent = ServicePlan(service=WEB, bgp=BGPDecision(refused={"me": why}))
    Notices(events, "me").report(WEB, web, silent, ())
    assert events.facts() == [("Warning", "announceFailed", why.text)]
    Notices(events, "other").report(WEB, web, silent, ())
    assert events.facts() == []


def test_metrics_name_each_address_that_is_announced() -> None:
    notices = Notices(Recorded(), "me")
    notices.report(WEB, builders.service("web"), service_plan("me"), ("frr",))
    labels = [sample.labels for sample in notices.samples()]
    assert labels == [
        ("default/web", "bgp", "me", "192.0.2.1"),
        ("default/web", "layer2", "me", "192.0.2.1"),
    ]
    notices.report(WEB, None, None, ())
    assert list(notices.samples()) == []


# --- translation ---


def settled_peer(**fields: Any) -> Peer:
    """A peer as the decision settles it."""
    return build_config(Snapshot(peers=(builders.peer("frr", **fields),)), EMPTY).config.peers[
        "frr"
    ]


def test_what_a_peer_leaves_open_gets_the_sessions_default() -> None:
    config = peer_config(settled_peer(my_asn=64500, peer_asn=64512, address="192.0.2.1"))
    assert (config.local_asn, config.peer_asn) == (64500, 64512)
    assert config.peer_address == parse_address("192.0.2.1")
    assert (config.peer_port, config.hold_time, config.keepalive_time) == (179, 90.0, None)
    assert set(config.families) <= {IPV4_UNICAST, IPV6_UNICAST}


def test_what_a_peer_says_is_taken() -> None:
    config = peer_config(
        settled_peer(
            address="2001:db8::1",
            peer_asn=4_200_000_000,
            peer_port=1790,
            hold_time="30s",
            keepalive_time="10s",
            source_address="2001:db8::2",
            router_id="192.0.2.9",
            password="secret",
            ebgp_multi_hop=True,
        )
    )
    assert config.peer_asn == 4_200_000_000
    assert (config.peer_port, config.hold_time, config.keepalive_time) == (1790, 30.0, 10.0)
    assert config.source_address == parse_address("2001:db8::2")
    assert config.router_id == parse_address("192.0.2.9")
    assert config.password == "secret"
    assert config.ebgp_multihop


def test_a_route_keeps_all_its_attributes() -> None:
    route = bgp_route(
        AdvertisedRoute(
            prefix=parse_prefix("192.0.2.0/30"),
            local_pref=100,
            communities=(65535 << 16 | 65282,),
            large_communities=((64500, 1, 2),),
        )
    )
    assert str(route.prefix) == "192.0.2.0/30"
    assert route.local_pref == 100
    assert [tuple(part) for part in (route.communities,)] == [(0xFFFFFF02,)]
    (large,) = route.large_communities
    assert str(large) == "64500:1:2"


# --- the Node ---


def test_a_node_is_registered_and_what_others_set_stays() -> None:
    async def play() -> None:
        client, key = MemoryClient(), ObjectKey("", "me")
        addresses = [parse_address(a) for a in ("2001:db8::1", "192.0.2.1", "192.0.2.2")]
        for _ in range(2):
            await register_node(client, "me", addresses, {"zone": "east"}, "2026-01-01T00:00:00Z")
            client.change(Node, key, {"metadata": {"labels": {"somebody": "else"}}})
        node = client.read(Node, key)
        assert node.metadata.labels == {
            "kubernetes.io/hostname": "me",
            "kubernetes.io/os": "linux",
            "zone": "east",
            "somebody": "else",
        }
        told = [(item.type, item.address) for item in node.status.addresses]
        assert told == [
            ("InternalIP", "192.0.2.1"),
            ("InternalIP", "2001:db8::1"),
            ("Hostname", "me"),
        ]
        assert [(c.type, c.status) for c in node.status.conditions] == [("Ready", "True")]

    run(play)


def test_a_node_that_is_missing_is_told_once_and_keeps_the_program_unready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "clarion")
    nodes: dict[ObjectKey, Node] = {}
    own = OwnNode("me", nodes, Log("speaker"))
    for _ in range(3):
        own.look()
    assert list(own.missing()) == ["no Node me in the API"]
    nodes[ObjectKey("", "me")] = builders.node("me")
    for _ in range(3):
        own.look()
    assert list(own.missing()) == []
    (missing, there) = [record.getMessage() for record in caplog.records]
    assert "nothing is announced until there is one" in missing
    assert there == "the Node is there"


def test_a_node_that_somebody_deletes_is_registered_again() -> None:
    async def play() -> None:
        nodes: dict[ObjectKey, Node] = {}
        client, key = MemoryClient(), ObjectKey("", "me")
        async with Writing() as writer:
            own = OwnNode("me", nodes, Log("speaker"))
            own.keep_registered(client, writer, StillClock(), {})
            for _ in range(2):
                own.look()
                await until(lambda: writer.idle)
                nodes[key] = client.read(Node, key)
                own.look()
                client.drop(Node, key)
                del nodes[key]

    run(play)


# --- the start ---


async def asked(server: ScriptedServer) -> str:
    config = KubeConfig(server.url, StaticCredentials(Identity()))
    async with KubeClient(config) as client:
        return await default_namespace(client, Log("test"), retry=0.0)


def test_the_namespace_of_a_former_installation_is_taken() -> None:
    async def play() -> None:
        async with ScriptedServer() as server:
            found = {"metadata": {"name": "metallb-system"}}
            server.script(reply(found), refuse(404, "NotFound"))
            assert await asked(server) == "metallb-system"
            assert await asked(server) == "clarion-system"

    run(play)


def test_an_api_that_is_away_at_the_start_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        async with ScriptedServer() as server:
            nonsense = reply(b"<html>not an API</html>")
            server.script(
                cut(), cut(), refuse(503), nonsense, reply({"metadata": {"name": "metallb-system"}})
            )
            assert await asked(server) == "metallb-system"
            assert server.finished

    run(play)
    waits = [record for record in caplog.records if "waiting for it" in record.getMessage()]
    assert len(waits) == 1


def test_an_api_that_refuses_us_ends_the_start() -> None:
    async def play() -> None:
        async with ScriptedServer() as server:
            server.script(refuse(403, "Forbidden", "no rights"))
            with pytest.raises(ForbiddenError, match="no rights"):
                await asked(server)

    run(play)


def test_the_client_in_memory_is_a_client() -> None:
    async def play() -> None:
        client = MemoryClient()
        client.put(Namespace(metadata=ObjectMeta(name="shop")))
        assert (await client.get(Namespace, ObjectKey("", "shop"))).name == "shop"
        client.refusals.append(UnreachableError(0, "", "away"))
        with pytest.raises(UnreachableError):
            await client.create(builders.service("web"))
        await client.create(builders.service("web"))
        assert client.read(Service, WEB).name == "web"
        await asyncio.sleep(0)

    run(play)
