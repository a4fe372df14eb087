"""Who announces what, one line per case: endpoints, election, routes."""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import pytest

from clarion.base.addr import parse_address
from clarion.decide.communities import format_community, parse_community, well_known
from clarion.decide.elect import rank
from clarion.decide.endpoints import serving
from clarion.decide.plan import Plan, ServicePlan
from clarion.decide.planner import Planner, plan
from clarion.decide.selectors import describe, faults, matches
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.testing import builders as b

WEB = ObjectKey("default", "web")
NODES = [b.node("n1", "zone=east"), b.node("n2", "zone=west"), b.node("n3", "zone=west")]
POOL = b.pool("p", "192.0.2.0/28", "2001:db8::/124")
BASE = [POOL, *NODES, b.endpoints("web", "n1", "n2", "n3")]


@pytest.mark.parametrize(
    ("address", "nodes", "order"),
    [  # MetalLB's own vectors.
        ("10.0.0.1", "node-a node-b node-c", "node-b node-a node-c"),
        ("10.0.0.2", "node-a node-b node-c", "node-b node-c node-a"),
        ("10.20.30.1", "node-a node-b", "node-b node-a"),
    ],
)
def test_election_order(address: str, nodes: str, order: str) -> None:
    scores = dict.fromkeys(nodes.split(), 0)
    assert rank(parse_address(address), scores) == tuple(order.split())


def test_election_prefers_score_then_the_incumbent() -> None:
    address = parse_address("10.0.0.1")
    assert rank(address, {"node-a": 0, "node-b": 0, "node-c": 5})[0] == "node-c"
    assert rank(address, {"node-a": 0, "node-b": 0}, "node-a")[0] == "node-a"
    assert rank(address, {"node-a": 0, "node-b": 1}, "node-a")[0] == "node-b"


def test_a_node_that_leaves_moves_only_what_it_had() -> None:
    nodes = dict.fromkeys([f"node-{i}" for i in range(10)], 0)
    rest = {name: 0 for name in nodes if name != "node-3"}
    for number in range(256):
        address = parse_address(f"192.0.2.{number}")
        before = rank(address, nodes)
        assert rank(address, rest) == tuple(name for name in before if name != "node-3")


@pytest.mark.parametrize(
    ("ready", "serves", "terminating", "expected"),
    [
        (True, None, None, True),
        (None, None, None, True),
        (True, True, True, True),
        (False, True, True, True),
        (False, True, None, True),
        (False, False, True, False),
        (False, None, None, False),
        (None, False, None, True),
    ],
)
def test_readiness(ready: Any, serves: Any, terminating: Any, expected: bool) -> None:
    item = b.endpoints("web", "n1", ready=ready, serving=serves, terminating=terminating)
    found = serving([item])
    assert (found.total, found.on("n1")) == (int(expected), expected)


def test_endpoints_are_counted_by_node() -> None:
    slices = [b.endpoints("web", "n1", "n1", "n2"), b.endpoints("web", "n1", "", suffix="2")]
    found = serving(slices)
    assert (found.total, found.by_node, found.seen) == (5, {"n1": 3, "n2": 1}, 5)


def made(*objects: Any, **inputs: Any) -> Plan:
    options = next((item for item in objects if isinstance(item, Options)), Options())
    objs = {}
    for item in (*BASE, *objects):
        if not isinstance(item, Options):
            objs[type(item), item.namespace, item.name] = item
    return plan(Snapshot.from_objects(objs.values(), options, **inputs))


def web(result: Plan) -> ServicePlan:
    return result.services[WEB]


S = b.service("web", ingress=("192.0.2.1",))
LOCAL = b.service("web", ingress=("192.0.2.1",), local=True)
TIER = b.service("web", ingress=("192.0.2.1",), labels="tier=web")
L2 = b.l2_advertisement("l2")
FULL_ORDER = rank(parse_address("192.0.2.1"), {"n1": 0, "n2": 0, "n3": 0})

# Objects beside the base -> ranking, and the reason of every other node.
L2_CASES: list[tuple[str, list[Any], str, dict[str, str]]] = [
    ("all nodes are candidates", [S, L2], " ".join(FULL_ORDER), {}),
    ("node selectors", [S, b.l2_advertisement("l2", nodes=["zone=east"])], "n1", {"n2": "node-not-selected", "n3": "node-not-selected"}),
    ("two advertisements cover together", [S, b.l2_advertisement("l2", nodes=["zone=east"]), b.l2_advertisement("m2", nodes=["zone=west"])], " ".join(FULL_ORDER), {}),
    ("a node that is not ready", [S, L2, b.node("n2", ready=False)], " ".join(n for n in FULL_ORDER if n != "n2"), {"n2": "node-not-ready"}),
    ("a node without network", [S, L2, b.node("n2", network_unavailable=True)], " ".join(n for n in FULL_ORDER if n != "n2"), {"n2": "node-network-unavailable"}),
    ("an excluded node", [S, L2, b.node("n2", excluded=True)], " ".join(n for n in FULL_ORDER if n != "n2"), {"n2": "node-excluded"}),
    ("the value of the label does not matter", [S, L2, b.node("n2", "node.kubernetes.io/exclude-from-external-load-balancers=false")], " ".join(n for n in FULL_ORDER if n != "n2"), {"n2": "node-excluded"}),
    ("a node that is not selected anyway", [S, b.l2_advertisement("l2", nodes=["zone=east"]), b.node("n2", excluded=True)], "n1", {"n2": "node-not-selected", "n3": "node-not-selected"}),
    ("an excluded node, told not to mind", [S, L2, b.node("n2", excluded=True), Options(ignore_exclude_lb=True)], " ".join(FULL_ORDER), {}),
    ("policy Local: only nodes with an endpoint", [LOCAL, L2, b.endpoints("web", "n3")], "n3", {"n1": "node-without-local-endpoint", "n2": "node-without-local-endpoint"}),
    ("policy Cluster: endpoints anywhere", [S, L2, b.endpoints("web", "n3")], " ".join(FULL_ORDER), {}),
    ("preferences", [S, b.l2_advertisement("l2", prefer={"zone=east": 1})], " ".join(["n1", *(n for n in FULL_ORDER if n != "n1")]), {}),
    ("preferences add up over advertisements", [S, b.l2_advertisement("l2", prefer={"zone=east": 60}), b.l2_advertisement("m2", prefer={"zone=west": 50}), b.l2_advertisement("o2", prefer={"zone=west": 11})], " ".join([*(n for n in FULL_ORDER if n != "n1"), "n1"]), {}),
    ("a preference counts only where its advertisement covers", [S, b.l2_advertisement("l2", nodes=["zone=west"], prefer={"zone=east": 99}), b.l2_advertisement("m2")], " ".join(FULL_ORDER), {}),
    ("service selectors match", [TIER, b.l2_advertisement("l2", services=["tier=web"])], " ".join(FULL_ORDER), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "objects", "ranking", "refused"), L2_CASES, ids=[row[0] for row in L2_CASES]
)
def test_l2(label: str, objects: list[Any], ranking: str, refused: dict[str, str]) -> None:
    decision = web(made(*objects)).l2
    assert decision.ranking == tuple(ranking.split())
    assert decision.owner == decision.ranking[0]
    assert decision.announced
    assert {node: why.code for node, why in decision.refused.items()} == refused


SHARED = b.service("web", ingress=("192.0.2.1",), labels="tier=web", share="")
L2_NO: list[tuple[str, list[Any], str]] = [
    ("no advertisement", [S], "l2-no-advertisement"),
    ("advertisement of another pool", [S, b.pool("q", "198.51.100.0/28"), b.l2_advertisement(pools=["q"])], "l2-no-advertisement"),
    ("advertisement for other services", [S, b.l2_advertisement(services=["tier=web"])], "l2-other-services"),
    ("sharing and service selectors", [SHARED, b.l2_advertisement(services=["tier=web"])], "l2-sharing-with-service-selectors"),
    ("no endpoint, even for Cluster", [S, L2, b.endpoints("web")], "no-endpoints"),
    ("endpoints that cannot serve", [S, L2, b.endpoints("web", "n1", ready=False)], "no-endpoints"),
    ("no candidate", [S, b.l2_advertisement(nodes=["zone=north"])], "l2-no-candidate"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "objects", "code"), L2_NO, ids=[row[0] for row in L2_NO])
def test_not_answered(label: str, objects: list[Any], code: str) -> None:
    decision = web(made(*objects)).l2
    assert not decision.announced
    assert not decision.owner
    assert decision.reasons[0].code == code


def test_speakers_that_do_not_live_are_no_candidates() -> None:
    decision = web(made(S, L2, speakers=["n3"])).l2
    assert decision.ranking == ("n3",)
    assert {why.code for why in decision.refused.values()} == {"node-without-speaker"}


def test_the_owner_without_the_interface_stays_silent_and_says_so() -> None:
    interfaces = {"n1": ["eth0"], "n2": ["eth1"], "n3": ["eth1"]}
    ad = b.l2_advertisement("l2", interfaces=["eth0"])
    owner = FULL_ORDER[0]
    default = web(made(S, ad, interfaces={**interfaces, owner: ["eth9"]})).l2
    assert (default.owner, default.announced) == (owner, False)
    assert default.reasons[0].code == "l2-owner-without-interface"
    required = made(S, ad, Options(l2_require_interface=True), interfaces=interfaces)
    assert web(required).l2.ranking == ("n1",)
    assert web(required).l2.interfaces == ("eth0",)
    assert {why.code for why in web(required).l2.refused.values()} == {"node-without-interface"}


def test_interfaces_are_the_union_over_advertisements_that_cover_the_owner() -> None:
    east = b.l2_advertisement("a", nodes=["zone=east"], interfaces=["eth0"])
    also = b.l2_advertisement("b", nodes=["zone=east"], interfaces=["eth1"])
    west = b.l2_advertisement("c", nodes=["zone=west"])
    only_n1 = b.endpoints("web", "n1")
    assert web(made(LOCAL, east, also, west, only_n1)).l2.interfaces == ("eth0", "eth1")
    assert web(made(LOCAL, east, b.l2_advertisement("d"), only_n1)).l2.interfaces is None


def test_services_on_one_address_are_one_announcement() -> None:
    a = b.service("web", ingress=("192.0.2.1",), share="k")
    c = b.service("web2", ingress=("192.0.2.1",), share="k", ports=[81])
    result = made(a, c, L2, b.endpoints("web2", "n2"))
    found = [item for node in result.nodes.values() for item in node.l2]
    assert len(found) == 1
    assert len(found[0].services) == 2


ROUTER = b.peer("r")
BGP = b.bgp_advertisement("bgp")


def routes(result: Plan, node: str, peer: str) -> list[str]:
    found = []
    for item in result.nodes[node].peers[peer].routes:
        small, large = item.route.communities, item.route.large_communities
        parts = [str(item.route.prefix), str(item.route.local_pref)]
        parts += [*map(format_community, small), *map(format_community, large)]
        found.append(" ".join(parts))
    return found


# Objects beside the base -> what node n1 tells peer r.
BGP_CASES: list[tuple[str, list[Any], list[str]]] = [
    ("one address", [S, BGP], ["192.0.2.1/32 0"]),
    ("both families", [b.service("web", families=(4, 6), ingress=("192.0.2.1", "2001:db8::1")), BGP], ["192.0.2.1/32 0", "2001:db8::1/128 0"]),
    ("aggregate", [S, b.bgp_advertisement(length=28)], ["192.0.2.0/28 0"]),
    ("attributes", [S, b.bgp_advertisement(local_pref=100, communities=["no-export", "1:2", "large:1:2:3"])], ["192.0.2.1/32 100 1:2 65535:65281 1:2:3"]),
    ("alias", [S, b.community(mine="65000:7"), b.bgp_advertisement(communities=["mine"])], ["192.0.2.1/32 0 65000:7"]),
    ("an alias takes precedence over a well-known name", [S, b.community("c", {"no-export": "65000:7"}), b.bgp_advertisement(communities=["no-export"])], ["192.0.2.1/32 0 65000:7"]),
    ("two advertisements, one prefix: union", [S, b.bgp_advertisement("a", communities=["1:1"]), b.bgp_advertisement("b", communities=["1:2"])], ["192.0.2.1/32 0 1:1 1:2"]),
    ("two advertisements, two prefixes", [S, BGP, b.bgp_advertisement("agg", length=28, length6=124, local_pref=5)], ["192.0.2.0/28 5", "192.0.2.1/32 0"]),
    ("node selectors: this one", [S, b.bgp_advertisement(nodes=["zone=east"])], ["192.0.2.1/32 0"]),
    ("node selectors: another one", [S, b.bgp_advertisement(nodes=["zone=west"])], []),
    ("peers: this one", [S, b.bgp_advertisement(peers=["r"])], ["192.0.2.1/32 0"]),
    ("peers: another one", [S, b.peer("q", "198.51.100.9"), b.bgp_advertisement(peers=["q"])], []),
    ("pool by label", [b.pool("p", "192.0.2.0/28", labels="zone=east"), S, b.bgp_advertisement(pool_selectors=["zone=east"])], ["192.0.2.1/32 0"]),
    ("service selectors", [TIER, b.bgp_advertisement(services=["tier=web"])], ["192.0.2.1/32 0"]),
    ("service selectors of others", [S, b.bgp_advertisement(services=["tier=web"])], []),
    ("policy Local, endpoint here", [LOCAL, BGP, b.endpoints("web", "n1")], ["192.0.2.1/32 0"]),
    ("policy Local, endpoint elsewhere", [LOCAL, BGP, b.endpoints("web", "n2")], []),
    ("policy Cluster, endpoint elsewhere", [S, BGP, b.endpoints("web", "n2")], ["192.0.2.1/32 0"]),
    ("no endpoint", [S, BGP, b.endpoints("web")], []),
    ("network unavailable", [S, BGP, b.node("n1", network_unavailable=True)], []),
    ("excluded", [S, BGP, b.node("n1", excluded=True)], []),
    ("not ready: the speaker decides, not the kubelet", [S, BGP, b.node("n1", ready=False)], ["192.0.2.1/32 0"]),
    ("one length of a pool of both families clashes, as in MetalLB", [S, b.bgp_advertisement("a", created=1), b.bgp_advertisement("agg", length=28, local_pref=5)], ["192.0.2.1/32 0"]),
    ("local preferences that clash for this service", [TIER, BGP, b.bgp_advertisement("b", services=["tier=web"], local_pref=7)], []),
    ("local preferences that do not clash for that one", [S, BGP, b.bgp_advertisement("b", services=["tier=web"], local_pref=7)], ["192.0.2.1/32 0"]),
]  # fmt: skip


@pytest.mark.parametrize(("label", "objects", "expected"), BGP_CASES, ids=[r[0] for r in BGP_CASES])
def test_bgp(label: str, objects: list[Any], expected: list[str]) -> None:
    assert routes(made(ROUTER, *objects), "n1", "r") == expected


BGP_NO: list[tuple[str, list[Any], str]] = [
    ("no advertisement", [S], "bgp-no-advertisement"),
    ("for other services", [S, b.bgp_advertisement(services=["tier=web"])], "bgp-other-services"),
    ("no endpoint", [S, BGP, b.endpoints("web")], "no-endpoints"),
]


@pytest.mark.parametrize(("label", "objects", "code"), BGP_NO, ids=[row[0] for row in BGP_NO])
def test_not_told(label: str, objects: list[Any], code: str) -> None:
    decision = web(made(ROUTER, *objects)).bgp
    assert not decision.announced
    assert decision.reasons[0].code == code


def test_nodes_that_do_not_tell_have_reasons() -> None:
    clash = b.bgp_advertisement("b", services=["tier=web"], local_pref=7, nodes=["zone=east"])
    decision = web(made(ROUTER, TIER, BGP, clash, b.node("n2", excluded=True))).bgp
    assert {node: why.code for node, why in decision.refused.items()} == {
        "n1": "bgp-local-pref-conflict",
        "n2": "node-excluded",
    }
    assert list(decision.nodes) == ["n3"]


def test_nodes_without_a_local_endpoint_do_not_tell_and_say_so() -> None:
    decision = web(made(ROUTER, LOCAL, BGP, b.endpoints("web", "n2"))).bgp
    assert list(decision.nodes) == ["n2"]
    codes = {node: why.code for node, why in decision.refused.items()}
    assert codes == dict.fromkeys(["n1", "n3"], "node-without-local-endpoint")


def test_a_peer_runs_where_its_node_selectors_match() -> None:
    result = made(S, BGP, b.peer("r", nodes=["zone=east"]))
    assert routes(result, "n1", "r") == ["192.0.2.1/32 0"]
    refused = result.nodes["n2"].peers["r"].refused
    assert refused
    assert refused.code == "peer-not-on-node"


def test_a_peer_that_the_back_end_cannot_serve_says_so() -> None:
    far = b.peer("r", peer_port=20000)
    refused = made(S, BGP, far, Options(backend="frr-k8s")).nodes["n1"].peers["r"].refused
    assert refused
    assert refused.code == "peer-not-supported"
    assert routes(made(S, BGP, far), "n1", "r") == ["192.0.2.1/32 0"]


def test_frr_carries_the_family_of_the_transport() -> None:
    dual = b.service("web", families=(4, 6), ingress=("192.0.2.1", "2001:db8::1"))
    result = made(dual, BGP, b.peer("r", "2001:db8:1::1"), Options(backend="frr"))
    assert routes(result, "n1", "r") == ["2001:db8::1/128 0"]


def test_one_aggregate_of_two_pools_with_two_local_preferences() -> None:
    # Both ranges end inside 192.0.2.4/30, which no rule about one pool can see.
    result = made(
        ROUTER,
        b.pool("p", "192.0.2.0-192.0.2.5"),
        b.pool("q", "192.0.2.6-192.0.2.12"),
        b.bgp_advertisement("a", pools=["p"], length=30, local_pref=10, communities=["1:1"]),
        b.bgp_advertisement("b", pools=["q"], length=30, local_pref=20, communities=["1:2"]),
        b.service("web", ingress=("192.0.2.5",)),
        b.service("two", ingress=("192.0.2.6",)),
        b.endpoints("two", "n1"),
    )
    assert routes(result, "n1", "r") == ["192.0.2.4/30 20 1:1 1:2"]
    (route,) = result.nodes["n1"].peers["r"].routes
    assert route.advertisements == ("a", "b")
    assert [note.code for note in route.notes] == ["bgp-local-pref-highest"]
    assert {item.code for item in result.problems} == {"aggregate-beyond-pool"}


def test_a_speaker_takes_addresses_from_the_status() -> None:
    speaker = Planner(node="n1", allocate=False)
    waiting = b.service("web2")
    for obj in (*BASE, ROUTER, BGP, S, waiting, b.endpoints("web2", "n1")):
        speaker.put(obj)
    changes = speaker.refresh()
    assert [str(prefix) for prefix in changes.routes["r"]] == ["192.0.2.1/32"]
    assert speaker.peers_told(WEB) == ("r",)
    assert speaker.peers_told(ObjectKey("default", "web2")) == ()
    speaker.put(b.service("web", ingress=("203.0.113.1",)))
    changes = speaker.refresh()
    assert list(changes.routes["r"].values()) == [None]
    assert [r.code for r in speaker.services[WEB].reasons] == ["no-common-pool"]


def test_the_peers_told_are_those_of_the_services_own_advertisements() -> None:
    speaker = Planner(node="n1", allocate=False)
    web2 = b.service("web2", ingress=("192.0.2.17",))
    for obj in (
        *(*BASE, b.pool("q", "192.0.2.16/28"), S, web2, b.endpoints("web2", "n1")),
        *(b.peer("r"), b.peer("t", "198.51.100.2")),
        b.bgp_advertisement("a", pools=["p"], peers=["r"], length=28),
        b.bgp_advertisement("b", pools=["q"], peers=["t"], length=28),
    ):
        speaker.put(obj)
    speaker.refresh()
    assert speaker.peers_told(WEB) == ("r",)
    assert speaker.peers_told(ObjectKey("default", "web2")) == ("t",)


def test_edits_of_advertisements_reach_the_services() -> None:
    planner = Planner(node="n1")
    for obj in (*BASE, S, L2, BGP, ROUTER):
        planner.put(obj)
    planner.refresh()
    planner.put(b.l2_advertisement("l2", interfaces=["eth0"]))
    changes = planner.refresh()
    assert planner.services[WEB].l2.interfaces == ("eth0",)
    assert changes.services == (WEB,)
    planner.put(b.bgp_advertisement("bgp", communities=["1:1"]))
    (route,) = planner.refresh().routes["r"].values()
    assert route
    assert route.communities == (0x10001,)
    planner.remove(type(ROUTER), ROUTER.key)
    changes = planner.refresh()
    assert changes.peers
    assert "no-peers" in [item.code for item in planner.services[WEB].bgp.reasons]
    planner.remove(type(BGP), BGP.key)
    planner.refresh()
    assert planner.services[WEB].bgp.reasons[0].code == "bgp-no-advertisement"


def test_services_come_and_go_and_the_aggregate_stays_to_the_last() -> None:
    speaker = Planner(node="n1", allocate=False)
    names = ["web", "a", "c"]
    for obj in (*BASE, ROUTER, b.bgp_advertisement(length=28)):
        speaker.put(obj)
    for number, name in enumerate(names):
        speaker.put(b.service(name, ingress=(f"192.0.2.{number}",)))
        speaker.put(b.endpoints(name, "n1"))
    assert len(speaker.refresh().routes["r"]) == 1
    for name in names[:2]:
        speaker.remove(Service, ObjectKey("default", name))
        assert speaker.refresh().routes == {}
    speaker.remove(Service, ObjectKey("default", names[2]))
    assert list(speaker.refresh().routes["r"].values()) == [None]


SELECTORS: list[tuple[str, str, bool]] = [
    ("", "a=b", True),
    ("a=b", "a=b,c=d", True),
    ("a=b", "a=c", False),
    ("a in (x,y)", "a=y", True),
    ("a in (x,y)", "", False),
    ("a notin (x)", "", True),
    ("a notin (x)", "a=x", False),
    ("a", "a=", True),
    ("a", "", False),
    ("!a", "", True),
    ("!a", "a=1", False),
    ("a=b,c in (d)", "a=b", False),
]


@pytest.mark.parametrize(("selector", "labels", "expected"), SELECTORS)
def test_selectors(selector: str, labels: str, expected: bool) -> None:
    parsed = b.selector(selector)
    assert matches(parsed, b.pairs(labels)) is expected
    assert list(faults(parsed)) == []
    assert describe(parsed) == (selector or "everything")


def test_communities() -> None:
    assert format_community(parse_community("65535:65282")) == "65535:65282"
    assert parse_community("large:4294967295:0:1") == (4294967295, 0, 1)
    assert well_known("NO_ADVERTISE") == parse_community("65535:65282")
    assert well_known("blackhole") == parse_community("65535:666")
    assert well_known("graceful-shutdown") == parse_community("65535:0")
