"""Warnings about configuration against its cluster, one line per case, and that all are given."""
# ruff: noqa: E501 - a case is one line of a table, however long

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.decide.config import build_config
from clarion.decide.findings import service_findings
from clarion.decide.planner import Planner, plan
from clarion.decide.problems import PROBLEMS, Problem, problems_markdown
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.metallb import BGPPeerSpecV1Beta1, BGPPeerV1Beta1
from clarion.testing import builders as b

from .test_decide_config import CASES as CONFIG_CASES
from .test_decide_config import ELSEWHERE

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "problems.md"
P = b.pool("p", "192.0.2.0/28")
TWO = b.pool("p", "198.51.100.0/24", "192.0.2.0/28")
L2, BGP, R = b.l2_advertisement("l2"), b.bgp_advertisement("bgp"), b.peer("r")
OLD = {"metallb.universe.tf/address-pool": "p"}
OUT = b.node("out", "zone=east", excluded=True)
TIER = b.l2_advertisement("l2", services=["tier=web"])
EAST, WEST = b.node("e", "zone=east"), b.node("w", "zone=west")
ALL = Options(assume_cluster=True)


def noted(key: str, value: str) -> Any:
    return b.service(annotations={key: value})


def old_peer() -> BGPPeerV1Beta1:
    spec = BGPPeerSpecV1Beta1(my_asn=64500, peer_asn=64501, peer_address="198.51.100.9")
    return BGPPeerV1Beta1(metadata=b.meta("r", b.CONFIG_NAMESPACE), spec=spec)


def passive() -> Any:
    meta = b.meta("r", b.CONFIG_NAMESPACE, annotations={"clarion.metallb.io/passive": "true"})
    return msgspec.structs.replace(R, metadata=meta)


# Code, object, field, the other side -> objects. `n=eth0+eth1` gives the interfaces of a node.
CASES: list[tuple[str, str, str, str, list[Any]]] = [
    ("pool-overlaps-nodes", "IPAddressPool metallb-system/p", "spec.addresses[0]", "Node n", [P, L2, b.node("n", addresses=["192.0.2.9"])]),
    ("pool-overlaps-nodes", "IPAddressPool metallb-system/p", "spec.addresses[1]", "Node n", [TWO, L2, b.node("n", addresses=["203.0.113.1", "192.0.2.15"])]),
    ("pool-overlaps-nodes", "IPAddressPool metallb-system/p", "spec.addresses[0]", "Node n, Node o", [P, L2, b.node("n", addresses=["192.0.2.1"]), b.node("o", addresses=["192.0.2.2"])]),
    ("pool-overlaps-nodes", "IPAddressPool metallb-system/p", "spec.addresses[0]", "Node n", [b.pool("p", "2001:db8::/64"), L2, b.node("n", addresses=["2001:db8::5", "name"])]),
    ("pool-overlaps-pods", "IPAddressPool metallb-system/p", "spec.addresses[0]", "Node n", [P, L2, b.node("n", pods=["192.0.0.0/16"])]),
    ("pool-overlaps-pods", "IPAddressPool metallb-system/p", "spec.addresses[1]", "Node n", [TWO, L2, b.node("n", pods=["2001:db8::/64", "192.0.2.8/29"])]),
    ("pool-overlaps-services", "IPAddressPool metallb-system/p", "spec.addresses[0]", "Service default/web", [P, L2, b.service(cluster_ips=["192.0.2.3"])]),
    ("advertisement-without-service", "L2Advertisement metallb-system/l2", "spec.serviceSelectors", "", [P, TIER, b.service()]),
    ("advertisement-without-service", "BGPAdvertisement metallb-system/bgp", "spec.serviceSelectors", "", [P, R, b.bgp_advertisement(services=["tier=web"]), b.service(), b.service("db", labels="tier=web", type="ClusterIP")]),
    ("advertisement-only-excluded-nodes", "L2Advertisement metallb-system/l2", "spec", "Node out", [P, L2, OUT]),
    ("advertisement-only-excluded-nodes", "BGPAdvertisement metallb-system/bgp", "spec", "Node out", [P, R, OUT, b.node("in"), b.bgp_advertisement(nodes=["zone=east"])]),
    ("nodes-without-interfaces", "L2Advertisement metallb-system/l2", "spec.interfaces", "Node o", [P, b.node("n"), b.node("o"), b.l2_advertisement(interfaces=["eth0"]), "n=eth0", "o=eth1"]),
    ("interface-unknown", "L2Advertisement metallb-system/l2", "spec.interfaces[0]", "", [P, b.node("n", "a=1"), b.node("o"), b.l2_advertisement(nodes=["a=1"], interfaces=["eth1"]), "n=eth0", "o=eth1"]),
    ("interface-unknown", "L2Advertisement metallb-system/l2", "spec.interfaces[0]", "", [P, b.node("n", "a=1"), b.node("o"), b.l2_advertisement(nodes=["a=1"], interfaces=["eth1"]), "n=eth0"]),
    ("version-deprecated", "BGPPeer metallb-system/r", "apiVersion", "", [old_peer()]),
    ("back-end-lacks", "BGPPeer metallb-system/r", "metadata.annotations[clarion.metallb.io/passive]", "", [passive(), Options(backend="frr")]),
    ("annotation-deprecated", "Service default/web", "metadata.annotations[metallb.universe.tf/address-pool]", "", [P, L2, b.service(annotations=OLD)]),
    ("annotation-unknown", "Service default/web", "metadata.annotations[metallb.io/adress-pool]", "", [P, L2, noted("metallb.io/adress-pool", "p")]),
    ("annotation-unknown", "Service default/web", "metadata.annotations[metallb.universe.tf/loadBalancerIp]", "", [P, L2, noted("metallb.universe.tf/loadBalancerIp", "192.0.2.1")]),
    ("annotation-unknown", "Service default/web", "metadata.annotations[metalb.io/address-pool]", "", [P, L2, noted("metalb.io/address-pool", "p")]),
    ("annotation-without-effect", "Service default/web", "metadata.annotations[clarion.metallb.io/reserved]", "", [P, L2, noted("clarion.metallb.io/reserved", "192.0.2.1")]),
    ("wanted-pool-unknown", "Service default/web", "metadata.annotations[metallb.io/address-pool]", "", [P, L2, b.service(pool="pp")]),
    ("wanted-pool-unknown", "Service default/web", "metadata.annotations[metallb.universe.tf/address-pool]", "", [P, L2, b.service(annotations={"metallb.universe.tf/address-pool": "pp"})]),
    ("request-unreadable", "Service default/web", "metadata.annotations[metallb.io/loadBalancerIPs]", "", [P, L2, b.service(ips="192.0.2.010")]),
    ("request-unreadable", "Service default/web", "metadata.annotations[metallb.io/loadBalancerIPs]", "", [P, L2, b.service(ips="192.0.2.1;192.0.2.2", ingress=["192.0.2.1"])]),
    ("request-unreadable", "Service default/web", "metadata.annotations[metallb.io/loadBalancerIPs]", "", [P, L2, b.service(ips="192.0.2.1", load_balancer_ip="192.0.2.1")]),
    ("request-unreadable", "Service default/web", "spec.loadBalancerIP", "", [P, L2, b.service(load_balancer_ip="192.0.2.1, 192.0.2.2")]),
    ("service-without-address", "Service default/web", "metadata.annotations[metallb.io/loadBalancerIPs]", "", [P, L2, b.service(ips="198.51.100.1")]),
    ("service-without-address", "Service default/web", "spec.loadBalancerIP", "", [P, L2, b.service(load_balancer_ip="198.51.100.1")]),
    ("service-without-address", "Service default/web", "", "", [P, L2, b.service(families=(6,))]),
    ("service-without-address", "Service default/web", "", "", [P, L2, b.service(policy="RequireDualStack")]),
    ("service-without-address", "Service default/web", "", "", [b.pool("p", auto=False), L2, b.service()]),
    ("service-without-address", "Service default/web", "metadata.annotations[metallb.io/address-pool]", "", [b.pool("p", namespaces=["shop"]), L2, b.service(pool="p")]),
    ("service-without-address", "Service default/web", "metadata.annotations[metallb.io/loadBalancerIPs]", "", [P, L2, b.service("a", created=1, ips="192.0.2.1"), b.service(ips="192.0.2.1")]),
    ("service-without-address", "Service default/web", "", "", [b.service()]),
    ("service-not-announced", "Service default/web", "", "", [P, L2, ALL, b.service(), b.node("n", ready=False)]),
    ("service-not-announced", "Service default/web", "", "", [P, R, BGP, ALL, b.service(), b.node("n", network_unavailable=True), OUT]),
    ("service-not-announced", "Service default/web", "", "", [P, b.node("n", "a=1"), b.node("o"), b.l2_advertisement(nodes=["a=1"]), b.service(local=True), b.endpoints("web", "o")]),
    ("service-not-announced", "Service default/web", "", "", [P, ALL, TIER, b.service(), b.service("b", labels="tier=web"), b.node("n")]),
    ("service-not-announced", "Service default/web", "", "", [P, ALL, b.node("n"), b.l2_advertisement(interfaces=["eth0"]), b.service(), "n=eth1"]),
    ("selector-selects-nothing", "IPAddressPool metallb-system/p", "spec.serviceAllocation.serviceSelectors[0]", "", [b.pool("p", service_selectors=["tier=web"]), b.pool("q", "198.51.100.0/24"), L2, b.service()]),
    ("selector-selects-nothing", "IPAddressPool metallb-system/p", "spec.serviceAllocation.serviceSelectors[0]", "", [b.pool("p", namespaces=["shop"], service_selectors=["tier=web"]), b.namespace("shop"), b.pool("q", "198.51.100.0/24"), L2, b.service(labels="tier=web")]),
    ("advertisement-peer-elsewhere", "BGPAdvertisement metallb-system/bgp", "spec.peers[1]", "BGPPeer metallb-system/s", [P, R, EAST, WEST, b.peer("s", "198.51.100.2", nodes=["zone=west"]), b.bgp_advertisement(nodes=["zone=east"], peers=["r", "s"])]),
    ("advertisement-peer-elsewhere", "BGPAdvertisement metallb-system/bgp", "spec", "", [P, EAST, WEST, b.peer("r", nodes=["zone=west"]), b.bgp_advertisement(nodes=["zone=east"])]),
    ("peer-inside-pool", "BGPPeer metallb-system/r", "spec.peerAddress", "IPAddressPool metallb-system/p", [TWO, BGP, b.peer("r", "192.0.2.15")]),
    ("router-id-shared", "BGPPeer metallb-system/r", "spec.routerID", "Node e, Node w", [EAST, WEST, b.peer("r", router_id="192.0.2.9")]),
    ("load-balancer-ip-deprecated", "Service default/web", "spec.loadBalancerIP", "", [P, L2, b.service(load_balancer_ip="192.0.2.1")]),
    ("services-wait", "IPAddressPool metallb-system/p", "spec.addresses", "Service default/web", [b.pool("p", "192.0.2.0/32"), L2, b.service("a", created=1), b.service()]),
    ("services-wait", "IPAddressPool metallb-system/p", "spec.addresses", "Service default/web", [b.pool("p", "192.0.2.0/32", reserved="192.0.2.0"), L2, b.service()]),
    ("services-wait", "IPAddressPool metallb-system/p", "spec.addresses", "Service default/web", [b.pool("p", "192.0.2.0/30", "2001:db8::/128"), L2, b.service("a", created=1, families=(6,)), b.service(families=(6,))]),
]  # fmt: skip


def snapshot_of(items: list[Any]) -> Snapshot:
    options = next((item for item in items if isinstance(item, Options)), Options())
    objects = [item for item in items if not isinstance(item, str | Options)]
    pairs = dict(item.split("=") for item in items if isinstance(item, str))
    interfaces = {node: names.split("+") for node, names in pairs.items()}
    return Snapshot.from_objects(objects, options, interfaces=interfaces)


def problems_of(items: list[Any]) -> tuple[Problem, ...]:
    snapshot = snapshot_of(items)
    made = plan(snapshot)
    return (*made.problems, *service_findings(made, snapshot))


@pytest.mark.parametrize(
    ("code", "obj", "path", "others", "items"), CASES, ids=[f"{row[0]}@{row[1]}" for row in CASES]
)
def test_warning(code: str, obj: str, path: str, others: str, items: list[Any]) -> None:
    problems = problems_of(items)
    (found,) = (item for item in problems if item.code == code and item.path == path)
    assert str(found.object) == obj
    assert ", ".join(map(str, found.related)) == others
    assert found.severity == "warning"
    assert "{" not in found.message + found.remedy
    assert found.remedy


QUIET: list[tuple[str, list[Any]]] = [
    ("a node beside the pool", [P, L2, b.node("n", addresses=["192.0.2.16"], pods=["192.0.2.16/28"])]),
    ("a cluster IP beside the pool", [P, L2, b.service()]),
    ("no service is known", [P, TIER]),
    ("one service matches", [P, TIER, b.service(), b.service("b", labels="tier=web")]),
    ("one node is not excluded", [P, L2, OUT, b.node("n")]),
    ("excluded nodes may announce", [P, L2, OUT, Options(ignore_exclude_lb=True)]),
    ("interfaces are not known", [P, b.node("n"), b.l2_advertisement(interfaces=["eth0"])]),
    ("interfaces are required", [P, b.node("n"), b.node("o"), b.l2_advertisement(interfaces=["eth0"]), "n=eth0", "o=eth1", Options(l2_require_interface=True)]),
    ("the new spelling", [P, L2, b.service(pool="p")]),
    ("somebody else's service waits for nothing", [b.pool("p", "192.0.2.0/32"), L2, b.service("a"), b.service(load_balancer_class="x.example/y")]),
    ("the native speaker waits for peers", [passive()]),
    ("annotations of others", [P, L2, b.service(annotations={"kube-vip.io/loadbalancerIPs": "192.0.2.1", "metal3.io/pool": "x"})]),
    ("services alone: the pools live elsewhere", [ALL, b.service(pool="p"), b.node("n")]),
    ("a service that nobody is ready to serve", [P, L2, b.service(), b.endpoints("web", "n", ready=False), b.node("n")]),
    ("a service that is announced by one of two", [P, L2, R, BGP, ALL, b.service(), b.node("n", ready=False)]),
    ("a service of another type", [P, L2, b.service(type="ClusterIP", pool="p")]),
    ("peers of some of the covered nodes", [P, EAST, WEST, b.peer("r", nodes=["zone=west"]), BGP]),
    ("the pool's services are known by one label", [b.pool("p", service_selectors=["tier=web"]), L2, b.service(labels="tier=web")]),
]  # fmt: skip


@pytest.mark.parametrize(("label", "items"), QUIET, ids=[row[0] for row in QUIET])
def test_no_warning(label: str, items: list[Any]) -> None:
    assert codes(problems_of(items)) == []


def test_every_problem_is_produced() -> None:
    here = {row[0] for row in CASES}
    assert {code for code, _, _ in CONFIG_CASES} | here | ELSEWHERE == set(PROBLEMS)


def test_the_manual_lists_every_problem() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        MANUAL.write_text(problems_markdown())
    assert MANUAL.read_text() == problems_markdown(), "run with UPDATE_GOLDEN=1"


def test_a_misspelt_annotation_of_a_service_brings_the_right_one() -> None:
    made = plan(snapshot_of([P, L2, noted("metallb.universe.tf/allow-shared-ips", "k")]))
    (found,) = made.problems
    assert found.message.endswith("did you mean metallb.io/allow-shared-ip?")


def test_a_cause_is_told_once() -> None:
    """What an advertisement or a pool is told of already, its services are not told again."""
    cases = {
        "selector-selects-nothing": [P, b.node("n"), b.l2_advertisement(nodes=["a=b"])],
        "advertisement-only-excluded-nodes": [P, L2, OUT],
        "pool-not-advertised": [P, b.node("n")],
        "services-wait": [b.pool("p", "192.0.2.0/32", reserved="192.0.2.0"), L2],
        "address-invalid": [b.pool("p", "nonsense"), L2],
    }
    for code, objects in cases.items():
        told = codes(problems_of([ALL, *objects, b.service()]))
        assert [item for item in told if item != "no-nodes"] == [code]


def test_how_much_is_in_use_and_who_waits_is_said() -> None:
    pool = b.pool("p", "192.0.2.0/29", reserved="192.0.2.4/30")
    names = [f"s{i}" for i in range(12)]
    made = plan(Snapshot.from_objects([pool, L2, *(b.service(name) for name in names)]))
    (found,) = (item for item in made.problems if item.code == "services-wait")
    assert found.message == (
        "8 services wait for an IPv4 address, 4 of 8 are in use (50 %), 4 reserved, 0 resting: "
        "default/s2, default/s3, default/s4, default/s5, default/s6 and 3 more"
    )


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [item.code for item in problems]


def test_warnings_of_services_are_those_of_validate_too() -> None:
    items = [P, L2, b.service(annotations=OLD), b.service("b", cluster_ips=["192.0.2.3"])]
    snapshot = snapshot_of(items)
    wanted = ["pool-overlaps-services", "annotation-deprecated"]
    assert codes(build_config(snapshot).problems) == wanted
    assert codes(plan(snapshot).problems) == wanted


def test_a_program_follows_the_addresses_of_its_nodes() -> None:
    planner = Planner()
    for obj in (P, L2, b.node("n")):
        planner.put(obj)
    planner.refresh()
    assert codes(planner.problems) == []
    planner.put(b.node("n", addresses=["192.0.2.1"]))
    assert planner.refresh().problems
    assert codes(planner.problems) == ["pool-overlaps-nodes"]
    planner.put(b.node("n", pods=["192.0.2.0/24"]))
    planner.refresh()
    assert codes(planner.problems) == ["pool-overlaps-pods"]


def test_a_peer_written_anew_is_outdated_no_longer() -> None:
    planner = Planner()
    planner.put(old_peer())
    planner.refresh()
    assert codes(planner.problems) == ["version-deprecated"]
    assert codes(plan(planner.snapshot()).problems) == ["version-deprecated"]
    planner.put(b.peer("r", "198.51.100.9"))
    planner.refresh()
    assert codes(planner.problems) == []
