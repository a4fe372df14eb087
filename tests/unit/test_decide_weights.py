"""Weights by endpoints, the shedding of traffic, and communities of eight octets."""
# ruff: noqa: E501 - a case is one line of a table, however long

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from clarion.base.errors import InvalidInputError
from clarion.decide.communities import (
    GRACEFUL_SHUTDOWN,
    ExtendedCommunity,
    format_community,
    parse_community,
)
from clarion.decide.diff import diff
from clarion.decide.plan import Plan
from clarion.decide.planner import Planner, plan
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.meta import KubeObject
from clarion.testing import builders as b

POOL = b.pool("p", "192.0.2.0/28")
WEIGHTED = b.bgp_advertisement(weighted=True)
BASE = [POOL, b.peer("r"), b.node("n1"), b.node("n2")]


def local(name: str = "web", address: str = "192.0.2.1", **more: Any) -> KubeObject:
    return b.service(name, local=True, ingress=(address,), **more)


def made(objects: Iterable[Any], stopping: tuple[str, ...] = (), **options: Any) -> Plan:
    planner = Planner(Options(**options))
    planner.load(Snapshot.from_objects([*BASE, *objects]))
    planner.set_stopping(stopping)
    planner.refresh()
    return planner.plan()


def weights(result: Plan, peer: str = "r") -> dict[str, dict[str, int]]:
    """Node -> prefix -> weight of what a peer is told."""
    return {
        node.node: {str(item.route.prefix): item.route.weight for item in node.peers[peer].routes}
        for node in result.nodes.values()
    }


ONE, TWO = "192.0.2.1/32", "192.0.2.2/32"
WEB = b.endpoints("web", "n1", "n1", "n1", "n2")
API = b.endpoints("api", "n1", "n2", "n2")
SHARED: dict[str, Any] = {"share": "k", "selector": {"app": "x"}}

# Objects beside the base -> weights on n1 and n2.
WEIGHTS: list[tuple[str, list[Any], dict[str, int], dict[str, int]]] = [
    ("endpoints of each node", [local(), WEB, WEIGHTED], {ONE: 3}, {ONE: 1}),
    ("nobody asks", [local(), WEB, b.bgp_advertisement()], {ONE: 0}, {ONE: 0}),
    ("policy Cluster", [b.service("web", ingress=("192.0.2.1",)), WEB, WEIGHTED], {ONE: 0}, {ONE: 0}),
    ("no endpoint here", [local(), b.endpoints("web", "n1", "n1"), WEIGHTED], {ONE: 2}, {}),
    ("endpoints that cannot serve", [local(), WEB, b.endpoints("web", "n2", ready=False, suffix="2"), WEIGHTED], {ONE: 3}, {ONE: 1}),
    ("one that drains but serves", [local(), WEB, b.endpoints("web", "n2", ready=False, serving=True, suffix="2"), WEIGHTED], {ONE: 3}, {ONE: 2}),
    ("one pod with an address of each version", [local(), WEB, msgspec.structs.replace(b.endpoints("web", "n1", "n2", "n2", suffix="6"), address_type="IPv6"), WEIGHTED], {ONE: 3}, {ONE: 2}),
    ("two services, two prefixes", [local(), WEB, local("api", "192.0.2.2"), API, WEIGHTED], {ONE: 3, TWO: 1}, {ONE: 1, TWO: 2}),
    ("an aggregate: the sum", [local(), WEB, local("api", "192.0.2.2"), API, b.bgp_advertisement(length=28, weighted=True)], {"192.0.2.0/28": 4}, {"192.0.2.0/28": 3}),
    ("one address, two services: the sum", [local(**SHARED), WEB, local("api", ports=[81], **SHARED), API, WEIGHTED], {ONE: 4}, {ONE: 3}),
    ("an aggregate with policy Cluster in it: none", [local(), WEB, b.service("api", ingress=("192.0.2.2",)), API, b.bgp_advertisement(length=28, weighted=True)], {"192.0.2.0/28": 0}, {"192.0.2.0/28": 0}),
    ("two advertisements, one prefix, one asks", [local(), WEB, WEIGHTED, b.bgp_advertisement("other")], {ONE: 3}, {ONE: 1}),
    ("two advertisements, two prefixes, one asks", [local(), WEB, WEIGHTED, b.bgp_advertisement("other", length=28)], {ONE: 3, "192.0.2.0/28": 0}, {ONE: 1, "192.0.2.0/28": 0}),
    ("on another node the aggregate is of one service", [local(), b.endpoints("web", "n2"), b.service("api", ingress=("192.0.2.2",), local=True), b.endpoints("api", "n1"), b.bgp_advertisement(length=28, weighted=True)], {"192.0.2.0/28": 1}, {"192.0.2.0/28": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "objects", "n1", "n2"), WEIGHTS, ids=[label for label, *_ in WEIGHTS]
)
def test_weights(label: str, objects: list[Any], n1: dict[str, int], n2: dict[str, int]) -> None:
    assert weights(made(objects)) == {"n1": n1, "n2": n2}


def test_only_the_peers_of_the_advertisement_hear_of_weights() -> None:
    peers = [b.peer("s", "198.51.100.2"), b.bgp_advertisement("all")]
    told = made([local(), WEB, b.bgp_advertisement("asks", weighted=True, peers=["s"]), *peers])
    assert weights(told, "s")["n1"] == {ONE: 3}
    assert weights(told, "r")["n1"] == {ONE: 0}


def test_another_number_of_endpoints_changes_one_route() -> None:
    planner = Planner(node="n1")
    others = [local("api", "192.0.2.2"), API]
    for obj in (*BASE, local(), WEB, *others, WEIGHTED):
        planner.put(obj)
    planner.refresh()
    planner.put(b.endpoints("web", "n1", "n1", "n2", "n2"))
    changes = planner.refresh()
    assert {str(p): r and r.weight for p, r in changes.routes["r"].items()} == {ONE: 2}
    planner.put(b.endpoints("web", "n1", "n1", "n2", "n2", "n2"))
    assert planner.refresh().routes == {}, "what changes elsewhere is told from there"
    planner.put(b.bgp_advertisement())
    assert [r and r.weight for r in planner.refresh().routes["r"].values()] == [0, 0]


def test_a_service_that_leaves_an_aggregate_takes_its_weight_along() -> None:
    planner = Planner(node="n1")
    api = local("api", "192.0.2.2")
    for obj in (*BASE, local(), WEB, api, API, b.bgp_advertisement(length=28, weighted=True)):
        planner.put(obj)
    planner.refresh()
    planner.remove(type(api), api.key)
    (route,) = planner.refresh().routes["r"].values()
    assert route
    assert route.weight == 3


def told(result: Plan, node: str = "n1") -> list[tuple[int, tuple[int, ...]]]:
    return [(r.route.local_pref, r.route.communities) for r in result.nodes[node].peers["r"].routes]


SERVED = [b.service("web", ingress=("192.0.2.1",)), WEB]
PREFERRED = b.bgp_advertisement(local_pref=200, communities=["1:1"])
SHED = [(0, (0x10001, GRACEFUL_SHUTDOWN))]
FULL = [(200, (0x10001,))]
CORDONED = b.node("n1", cordoned=True)


def test_a_cordoned_node_sheds_its_traffic_where_that_is_asked_for() -> None:
    objects = [*SERVED, PREFERRED, CORDONED]
    assert told(made(objects)) == FULL
    drained = made(objects, graceful_shutdown=True)
    assert told(drained) == SHED
    assert told(drained, "n2") == FULL


def test_a_speaker_that_stops_sheds_its_traffic() -> None:
    assert told(made([*SERVED, PREFERRED], stopping=("n1",))) == SHED


def test_shedding_changes_routes_and_nothing_else() -> None:
    planner = Planner(Options(graceful_shutdown=True), node="n1")
    for obj in (*BASE, *SERVED, PREFERRED, b.l2_advertisement()):
        planner.put(obj)
    planner.refresh()
    for obj, wanted in ((CORDONED, SHED), (b.node("n1"), FULL)):
        planner.put(obj)
        changes = planner.refresh()
        (route,) = changes.routes["r"].values()
        assert route
        assert [(route.local_pref, route.communities)] == wanted
        assert (changes.peers, changes.l2, changes.services) == (False, {}, ())
    planner.set_stopping(["n1"])
    assert len(planner.refresh().routes["r"]) == 1


def test_what_sheds_is_shown_with_its_reason_in_a_difference() -> None:
    objects = [*SERVED, PREFERRED]
    calm, busy = (
        made(objects, graceful_shutdown=True),
        made([*objects, CORDONED], graceful_shutdown=True),
    )
    (change,) = diff(calm, busy).routes
    assert (change.change, change.nodes) == ("changed", ("n1",))
    assert change.attributes == ("local_pref", "communities")
    assert [item.code for item in change.reasons] == ["node-cordoned"]
    (back,) = diff(busy, calm).routes
    assert [item.code for item in back.reasons] == ["change-before"]
    assert "cordoned" in back.reasons[0].text


def test_another_weight_is_shown_with_its_reason_in_a_difference() -> None:
    one = made([local(), WEB, WEIGHTED])
    two = made([local(), b.endpoints("web", "n1", "n2"), WEIGHTED])
    (change,) = diff(one, two).routes
    assert change.attributes == ("weight",)
    assert [item.text for item in change.reasons] == [
        f"{ONE} has weight 1, the ready endpoints here: 1 of default/web"
    ]


def test_a_plan_of_a_snapshot_knows_who_stops() -> None:
    planner = Planner(node="n1")
    for obj in (*BASE, *SERVED, PREFERRED):
        planner.put(obj)
    planner.set_stopping(["n1"])
    planner.refresh()
    (route,) = planner.routes("r").values()
    (planned,) = plan(planner.snapshot()).nodes["n1"].peers["r"].routes
    assert planned.route == route


# Text -> the eight octets (RFC 4360 §3, §4, §5; RFC 5668 §2), and how routers print them.
EXTENDED = [
    ("extended:rt:64512:100", 0x0002_FC00_0000_0064, "rt:64512:100"),
    ("extended:rt:65535:4294967295", 0x0002_FFFF_FFFF_FFFF, "rt:65535:4294967295"),
    ("extended:soo:64512:7", 0x0003_FC00_0000_0007, "soo:64512:7"),
    ("extended:rt:192.0.2.1:100", 0x0102_C000_0201_0064, "rt:192.0.2.1:100"),
    ("extended:rt:4200000000:65535", 0x0202_FA56_EA00_FFFF, "rt:4200000000:65535"),
    ("extended:0x030b000000000005", 0x030B_0000_0000_0005, "0x030b000000000005"),
    ("extended:0x02020000fc000001", 0x0202_0000_FC00_0001, "0x02020000fc000001"),
    ("extended:0x0002FC0000000064", 0x0002_FC00_0000_0064, "rt:64512:100"),
]


@pytest.mark.parametrize(("text", "value", "printed"), EXTENDED)
def test_an_extended_community(text: str, value: int, printed: str) -> None:
    assert parse_community(text) == ExtendedCommunity(value)
    assert format_community(ExtendedCommunity(value)) == printed
    assert parse_community(f"extended:{printed}") == ExtendedCommunity(value)


@pytest.mark.parametrize(
    "text",
    [
        "extended:rt:65536:65536",
        "extended:rt:192.0.2.1:65536",
        "extended:rt:192.0.2:1",
        "extended:rt:64512",
        "extended:color:1:1",
        "extended:0x1",
        "extended:0002fc0000000064",
        "extended:0x0002fc00_0000064",
        "extended:1",
        "extended:",
        "rt:64512:100",
    ],
)
def test_what_is_no_extended_community(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_community(text)


def test_extended_communities_are_part_of_a_route() -> None:
    names = b.community(vpn="extended:soo:64512:7")
    ad = b.bgp_advertisement(communities=["vpn", "extended:rt:64512:100", "1:1"])
    (route,) = made([*SERVED, names, ad]).nodes["n1"].peers["r"].routes
    assert route.route.communities == (0x10001,)
    assert route.route.extended_communities == (0x0002_FC00_0000_0064, 0x0003_FC00_0000_0007)
