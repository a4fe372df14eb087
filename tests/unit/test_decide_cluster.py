"""Warnings about configuration against its cluster, one line per case, and that all are given."""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import msgspec
import pytest

from clarion.decide.config import build_config
from clarion.decide.planner import Planner, plan
from clarion.decide.problems import PROBLEMS, Problem
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.metallb import BGPPeerSpecV1Beta1, BGPPeerV1Beta1
from clarion.testing import builders as b

from .test_decide_config import CASES as CONFIG_CASES
from .test_decide_config import ELSEWHERE

P = b.pool("p", "192.0.2.0/28")
TWO = b.pool("p", "198.51.100.0/24", "192.0.2.0/28")
L2, BGP, R = b.l2_advertisement("l2"), b.bgp_advertisement("bgp"), b.peer("r")
OLD = {"metallb.universe.tf/address-pool": "p"}
OUT = b.node("out", "zone=east", excluded=True)
TIER = b.l2_advertisement("l2", services=["tier=web"])


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


@pytest.mark.parametrize(
    ("code", "obj", "path", "others", "items"), CASES, ids=[f"{row[0]}@{row[1]}" for row in CASES]
)
def test_warning(code: str, obj: str, path: str, others: str, items: list[Any]) -> None:
    problems = plan(snapshot_of(items)).problems
    (found,) = (item for item in problems if item.code == code)
    assert (str(found.object), found.path) == (obj, path)
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
]  # fmt: skip


@pytest.mark.parametrize(("label", "items"), QUIET, ids=[row[0] for row in QUIET])
def test_no_warning(label: str, items: list[Any]) -> None:
    assert [item.code for item in plan(snapshot_of(items)).problems] == []


def test_every_problem_is_produced() -> None:
    here = {row[0] for row in CASES}
    assert {code for code, _, _ in CONFIG_CASES} | here | ELSEWHERE == set(PROBLEMS)


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
