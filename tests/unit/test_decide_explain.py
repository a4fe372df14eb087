"""The use cases of the examples as plans, and every reason in an answer of `explain`."""
# ruff: noqa: E501 - a case is one line of a table, however long

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.decide.communities import format_community
from clarion.decide.config import build_config
from clarion.decide.document import document, plan_document
from clarion.decide.explain import QUESTIONS, explain
from clarion.decide.observed import UP, Observed, Program, Report
from clarion.decide.plan import Plan
from clarion.decide.planner import plan
from clarion.decide.reasons import REASONS, reasons_markdown
from clarion.decide.reasontree import Focus, ReasonTree
from clarion.decide.resting import Rest
from clarion.decide.settings import Config
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.codec import load_manifests
from clarion.model.core import Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.sessions import BGPSessionStatus, SessionEvent
from clarion.testing import builders as b

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "reasons.md"
ASSUME = Options(assume_cluster=True)


def example(name: str) -> list[KubeObject]:
    (folder,) = (ROOT / "examples").glob(f"{name}*")
    texts = [(str(path), path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    loaded = load_manifests(texts)
    assert loaded.problems == ()
    return list(loaded.objects)


def nodes(objects: list[KubeObject], **interfaces: list[str]) -> Plan:
    cluster = [
        b.node("node-a", {"kubernetes.io/hostname": "node-a"}),
        b.node("node-b", {"kubernetes.io/hostname": "node-b"}),
        b.node("node-c", {"kubernetes.io/hostname": "node-c"}),
    ]
    known = {name.replace("_", "-"): names for name, names in interfaces.items()} or None
    return plan(Snapshot.from_objects([*objects, *cluster], ASSUME, interfaces=known))


def told(made: Plan, node: str, peer: str) -> dict[str, str]:
    """Prefix -> local preference and communities."""
    return {
        str(item.route.prefix): " ".join(
            [str(item.route.local_pref), *map(format_community, item.route.communities)]
        )
        for item in made.nodes[node].peers[peer].routes
    }


def services(made: Plan) -> list[ObjectKey]:
    return [key for key, item in made.services.items() if item.addresses]


def test_1_basic_bgp() -> None:
    made = nodes(example("01"))
    assert made.problems == ()
    addresses = [a for item in made.services.values() for a in item.addresses]
    for node in made.nodes:
        for peer in made.config.peers:
            assert told(made, node, peer) == {str(a.host_prefix): "0" for a in addresses}
    assert {a.version for a in addresses} == {4, 6}


def test_2_advanced_bgp() -> None:
    objects = example("02")
    own = [obj for obj in objects if isinstance(obj, Service)]
    assert len(own) == 4

    def routes(count: int) -> dict[str, str]:
        gone = own[count:]
        made = nodes([obj for obj in objects if obj not in gone])
        tables = [told(made, node, peer) for node in made.nodes for peer in made.config.peers]
        assert all(table == tables[0] for table in tables)
        return tables[0]

    singles = {f"203.0.113.{n}/32": "100 65535:65282" for n in range(200, 204)}
    four = routes(4)
    assert {prefix: text for prefix, text in four.items() if prefix.endswith("/32")} == singles
    assert [prefix for prefix in four if prefix.endswith("/30")] == ["203.0.113.200/30"]
    assert four["203.0.113.200/30"] == "0 8000:800"
    assert four["fc00:f853:ccd:e799::/124"] == "0 8000:800"
    one = routes(1)
    assert one["203.0.113.200/30"] == "0 8000:800"
    assert sum(prefix.endswith("/32") for prefix in one) == 1
    assert routes(0) == {}


def test_2_without_the_annotation_nobody_gets_an_address() -> None:
    objects = [obj for obj in example("02") if not isinstance(obj, Service)]
    made = nodes([*objects, b.service("plain")])
    outcome = made.services[ObjectKey("default", "plain")].outcome
    assert outcome
    assert [item.code for item in outcome.reasons] == ["pool-not-automatic"]


def test_3_a_subset_of_nodes() -> None:
    made = nodes(example("03"))
    telling = {name for name in made.nodes for peer in made.config.peers if told(made, name, peer)}
    assert telling == {"node-a", "node-b"}
    for item in made.services.values():
        assert item.bgp.refused["node-c"].code == "node-not-selected"


def test_4_specific_peers() -> None:
    made = nodes(example("04"))
    (ad,) = (item for item in made.config.bgp.values() if item.peers)
    for peer in made.config.peers:
        assert bool(told(made, "node-a", peer)) == (peer in ad.peers)
    assert set(ad.peers) < set(made.config.peers)


@pytest.mark.parametrize("name", ["05", "06"])
def test_5_and_6_l2_by_name_and_by_label(name: str) -> None:
    made = nodes(example(name))
    answered = [item for item in made.services.values() if item.l2.announced]
    assert answered
    for item in answered:
        assert made.config.pools[item.pool].l2
        assert item.l2.interfaces is None
        assert len(item.l2.ranking) == 3


def test_7_selected_interfaces() -> None:
    objects = example("07")
    made = nodes(objects)
    names = {name for ad in made.config.l2.values() for name in ad.interfaces}
    assert names
    bare = nodes(objects, node_a=["other0"], node_b=["other0"], node_c=["other0"])
    for item in bare.services.values():
        if item.l2.owner and made.services[item.service].l2.interfaces:
            assert not item.l2.announced
            assert item.l2.reasons[0].code == "l2-owner-without-interface"
            text = flat(explain(bare, "service", str(item.service)))
            assert "none of the interfaces" in text
            assert "--l2-require-interface" in text


def test_8_both_at_once() -> None:
    made = nodes(example("08"))
    item = made.services[services(made)[0]]
    assert item.l2.announced
    assert len(item.bgp.nodes) == 3


def test_9_community_alias() -> None:
    made = nodes(example("09"))
    communities = {
        text
        for table in (told(made, "node-a", p) for p in made.config.peers)
        for text in table.values()
    }
    assert all(":" in text for text in communities)
    assert communities


def walk(tree: ReasonTree) -> Iterator[ReasonTree]:
    yield tree
    for child in tree.children:
        yield from walk(child)


def flat(tree: ReasonTree) -> str:
    return "\n".join(f"{item.label} {item.remedy}" for item in walk(tree))


N = [b.node("n1", "zone=east"), b.node("n2", "zone=west")]
P = b.pool("p", "192.0.2.0/31")
PREFER: dict[str, Any] = {"families": (4, 6), "policy": "PreferDualStack"}
L2, BGP, R = b.l2_advertisement("l2"), b.bgp_advertisement("bgp"), b.peer("r")
WEB, EP = b.service("web"), b.endpoints("web", "n1")
WORKED = build_config(Snapshot.from_objects([P, L2])).config


def heard(error: str, state: str = "Active") -> list[Any]:
    """A world in which n1 reports why its session is down."""
    report = BGPSessionStatus(node="n1", peer="r", state=state, last_error=SessionEvent(text=error))
    return [*N, BGP, R, Observed(details={"n1": {"r": report}})]


ELSEWHERE = ("speaker", "status")
"""Reasons that are no part of an answer: of the speaker's plan, and of `clarion status`."""
RESTS = b.pool("p", "192.0.2.0/32", hold_down="10m")
REST = Rest(parse_address("192.0.2.0"), ObjectKey("default", "old"), 5.0)


def wish(**kw: Any) -> list[Any]:
    return [P, b.service("web", **kw)]


LOCAL = b.service("web", local=True)
WEIGHTED = b.bgp_advertisement(weighted=True)
DRAINS = Options(graceful_shutdown=True)

# Code -> objects and question that bring it into an answer.
ANSWERS: list[tuple[str, list[Any], str]] = [
    ("address-kept", wish(ingress=("192.0.2.1",)), "service web"),
    ("address-assigned", [P, WEB], "service web"),
    ("address-added", [b.pool("p", "192.0.2.0/31", "2001:db8::/127"), b.service("web", ingress=("192.0.2.0",), **PREFER)], "service web"),
    ("request-granted", wish(ips="192.0.2.1"), "service web"),
    ("pool-asked-for", wish(pool="p"), "service web"),
    ("pool-reserved", [b.pool("p", priority=1), WEB], "service web"),
    ("pool-general", [P, WEB], "service default/web"),
    ("address-shared", wish(share="k"), "service web"),
    ("not-load-balancer", wish(type="ClusterIP"), "service web"),
    ("class-not-ours", wish(load_balancer_class="other"), "service web"),
    ("no-cluster-ip", wish(cluster_ips=()), "service web"),
    ("cluster-ips-invalid", wish(cluster_ips=("10.0.0.1", "10.0.0.2")), "service web"),
    ("not-enough-cluster-ips", wish(policy="RequireDualStack"), "service web"),
    ("no-pools", [WEB], "service web"),
    ("status-unreadable", wish(ingress=("web",)), "service web"),
    ("family-changed", wish(ingress=("2001:db8::1",)), "service web"),
    ("address-in-no-pool", wish(ips="198.51.100.1"), "service web"),
    ("address-in-no-pool", [P], "address 198.51.100.1"),
    ("address-of-lost-pool", [b.pool("p", "192.0.2.0/33"), b.service("web", ingress=("192.0.2.0",))], "service web"),
    ("address-buggy", [b.pool("p", "192.0.2.0/31", avoid_buggy=True), b.service("web", ips="192.0.2.0")], "service web"),
    ("addresses-of-two-pools", [P, b.pool("q", "2001:db8::/127"), b.service("web", ips="192.0.2.0,2001:db8::", **PREFER)], "service web"),
    ("pool-for-other-namespaces", [b.pool("p", namespaces=["prod"]), WEB], "service web"),
    ("pool-for-other-services", [b.pool("p", service_selectors=["a=b"]), WEB], "service web"),
    ("pool-not-automatic", [b.pool("p", auto=False), WEB], "service web"),
    ("pool-not-automatic", [b.pool("p", auto=False)], "pool p"),
    ("pool-unknown", wish(pool="q"), "service web"),
    ("pool-other-asked-for", [P, b.pool("q", "192.0.2.8/31"), b.service("web", ips="192.0.2.0", pool="q")], "service web"),
    ("pool-without-family", wish(families=(6,)), "service web"),
    ("pool-exhausted", [b.pool("p", "192.0.2.0/32"), b.service("a"), WEB], "service web"),
    ("pool-exhausted-but-reserved", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31"), WEB], "service web"),
    ("pool-resting", [RESTS, REST, WEB], "service web"),
    ("address-resting", [RESTS, REST, b.service("web", ips="192.0.2.0")], "service web"),
    ("address-resting", [RESTS, REST], "address 192.0.2.0"),
    ("address-reserved", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31")], "address 192.0.2.1"),
    ("request-differs", wish(ingress=("192.0.2.1",), ips="192.0.2.0"), "service web"),
    ("request-twice", wish(ips="192.0.2.0", load_balancer_ip="192.0.2.0"), "service web"),
    ("request-invalid", wish(ips="web"), "service web"),
    ("request-family", wish(ips="2001:db8::"), "service web"),
    ("address-held", [P, b.service("a", ips="192.0.2.0"), b.service("web", ips="192.0.2.0")], "service web"),
    ("sharing-key-differs", [P, b.service("a", share="k", ips="192.0.2.0"), b.service("web", share="z", ips="192.0.2.0")], "service web"),
    ("sharing-backend-differs", [P, b.service("a", share="k", ips="192.0.2.0"), b.service("web", share="k", local=True, selector={"a": "b"}, ports=[81], ips="192.0.2.0")], "service web"),
    ("sharing-port-taken", [P, b.service("a", share="k", ips="192.0.2.0"), b.service("web", share="k", ips="192.0.2.0")], "service web"),
    ("second-family-missing", [P, b.service("web", ingress=("192.0.2.0",), **PREFER)], "service web"),
    ("node-not-selected", [P, WEB, EP, *N, b.l2_advertisement(nodes=["zone=east"])], "service web"),
    ("node-without-speaker", [P, WEB, EP, *N, L2, "speakers=n1"], "service web"),
    ("node-not-ready", [P, WEB, EP, b.node("n1", ready=False), L2], "service web"),
    ("node-network-unavailable", [P, WEB, EP, b.node("n1", network_unavailable=True), L2], "node n1"),
    ("node-excluded", [P, WEB, EP, b.node("n1", excluded=True), L2], "node n1"),
    ("node-without-local-endpoint", [P, b.service("web", local=True), EP, *N, L2], "service web"),
    ("node-without-interface", [P, WEB, EP, *N, b.l2_advertisement(interfaces=["eth0"]), Options(l2_require_interface=True), "n1=eth1"], "service web"),
    ("no-endpoints", [P, WEB, *N, L2], "service web"),
    ("endpoints-assumed", [P, WEB, *N, L2, ASSUME], "service web"),
    ("no-address", [WEB], "speaker"),
    ("no-common-pool", [P, WEB], "speaker"),
    ("l2-owner", [P, WEB, EP, *N, L2], "service web"),
    ("l2-incumbent", [P, WEB, EP, *N, L2, "192.0.2.0=n1"], "service web"),
    ("l2-not-first", [P, WEB, EP, *N, L2], "service web"),
    ("l2-no-advertisement", [P, WEB, EP, *N], "service web"),
    ("l2-other-services", [P, WEB, EP, *N, b.l2_advertisement(services=["a=b"])], "service web"),
    ("l2-sharing-with-service-selectors", [P, b.service("web", share="", labels="a=b"), EP, *N, b.l2_advertisement(services=["a=b"])], "service web"),
    ("l2-no-candidate", [P, WEB, EP, *N, b.l2_advertisement(nodes=["zone=north"])], "service web"),
    ("l2-owner-without-interface", [P, WEB, EP, b.node("n1"), b.l2_advertisement(interfaces=["eth0"]), "n1=eth1"], "service web"),
    ("l2-no-interface", [P, WEB, EP, b.node("n1"), L2, "n1="], "service web"),
    ("l2-interface-not-named", [P, WEB, EP, *N, b.l2_advertisement(interfaces=["eth0"])], "service web interface=eth1"),
    ("l2-interface-absent", [P, WEB, EP, b.node("n1"), b.l2_advertisement(interfaces=["eth0", "eth1"]), "n1=eth1"], "service web interface=eth0"),
    ("bgp-announced", [P, WEB, EP, *N, BGP, R], "service web"),
    ("bgp-aggregated", [P, WEB, EP, *N, b.bgp_advertisement(length=31), R], "service web"),
    ("bgp-no-advertisement", [P, WEB, EP, *N], "service web"),
    ("bgp-other-services", [P, WEB, EP, *N, b.bgp_advertisement(services=["a=b"]), R], "service web"),
    ("bgp-local-pref-conflict", [P, b.service("web", labels="a=b"), EP, *N, BGP, b.bgp_advertisement("b", services=["a=b"], local_pref=1), R], "service web"),
    ("bgp-local-pref-highest", [b.pool("p", "192.0.2.0-192.0.2.5"), b.pool("q", "192.0.2.6-192.0.2.12"), b.service("web", ips="192.0.2.5"), b.service("b", ips="192.0.2.6"), EP, b.endpoints("b", "n1"), *N, b.bgp_advertisement("a", pools=["p"], length=30), b.bgp_advertisement("b", pools=["q"], length=30, local_pref=1), R], "peer r"),
    ("peer-not-on-node", [P, WEB, EP, *N, BGP, b.peer("r", nodes=["zone=east"])], "service web"),
    ("peer-not-told", [P, WEB, EP, *N, b.bgp_advertisement(peers=["q"]), b.peer("q", "198.51.100.9"), R], "service web"),
    ("peer-not-supported", [P, WEB, EP, *N, BGP, b.peer("r", peer_port=20000), Options(backend="frr-k8s")], "peer r"),
    ("bgp-weighted", [P, LOCAL, EP, *N, WEIGHTED, R], "service web"),
    ("bgp-weight-missing", [P, WEB, EP, *N, WEIGHTED, R], "peer r"),
    ("bgp-weight-not-local", [P, WEB, EP, *N, WEIGHTED, R], "service web"),
    ("bgp-weight-unknown", [P, LOCAL, *N, WEIGHTED, R, ASSUME], "service web"),
    ("node-cordoned", [P, WEB, EP, b.node("n1", cordoned=True), BGP, R, DRAINS], "node n1"),
    ("node-cordoned", [P, WEB, EP, b.node("n1", cordoned=True), BGP, R, DRAINS], "service web"),
    ("node-stopping", [P, WEB, EP, b.node("n1"), BGP, R, "stopping=n1"], "service web"),
    ("peer-without-family", [P, WEB, EP, *N, BGP, b.peer("r", "2001:db8::1"), Options(backend="frr")], "service web"),
    ("no-peers", [P, WEB, EP, *N, BGP], "service web"),
    ("address-free", [P], "address 192.0.2.1"),
    ("peer-runs", [P, WEB, EP, *N, BGP, R], "peer r"),
    ("node-eligible", [P, *N], "node n1"),
    ("node-eligible-bgp", [P, b.node("n1", ready=False)], "node n1"),
    ("not-found", [P], "pool pp"),
    ("status-behind", wish(ingress=("198.51.100.1",)), "service web"),
    ("object-left-out", [b.pool("p", "192.0.2.0/33"), WEB, ASSUME], "service web"),
    ("object-in-doubt", [P, WEB, EP, *N, b.bgp_advertisement("bgp", communities=["nope"]), R], "service web"),
    ("object-kept", [P, WEB, EP, *N, b.l2_advertisement("l2", nodes=["a in (b,b)"]), WORKED], "service web"),
    ("controller-absent", [P, WEB, Observed(controller=Program(age=1.0, duration=15.0))], "service web"),
    ("controller-silent", [P, WEB, Observed(controller=Program(holder="c", age=90.0, duration=15.0))], "service web"),
    ("speakers-silent", [], "status"),
    ("speaker-silent", [*N, "speakers=n1", Observed(speakers={"n2": Program(holder="n2", age=9.0, duration=4.0)})], "node n2"),
    ("session-up", [P, WEB, EP, *N, BGP, R, Observed(sessions={"n1": {"r": UP}})], "service web"),
    ("session-down", [P, WEB, EP, *N, BGP, R, Observed(sessions={"n1": {"r": "Active"}})], "service web"),
    ("answer-reported", [P, WEB, EP, *N, L2, Observed(reports={"default/web": Report(answering=("n1", "n2"))})], "service web"),
    ("answer-missing", [P, WEB, EP, *N, L2, Observed(reports={"default/web": Report()})], "service web"),
    ("answer-elsewhere", [P, WEB, EP, *N, L2, Observed(reports={"default/web": Report(answering=("n1", "n2"))})], "service web"),
    ("route-reported", [P, WEB, EP, *N, BGP, R, Observed(reports={"default/web": Report(telling={"n1": ("r",)})})], "service web"),
    ("route-missing", [P, WEB, EP, *N, BGP, R, Observed(reports={"default/web": Report(telling={"n1": ("r",)})})], "service web"),
    ("route-elsewhere", [P, WEB, EP, *N, b.bgp_advertisement(nodes=["zone=west"]), R, Observed(reports={"default/web": Report(telling={"n1": ("r",)})})], "service web"),
    ("session-begins", [*N, BGP, R, Observed(details={"n1": {"r": BGPSessionStatus(node="n1", state="Connect")}})], "peer r"),
    ("session-port-closed", heard("cannot connect to 198.51.100.1 port 179: Connection refused"), "peer r"),
    ("session-no-route", heard("cannot connect to 198.51.100.1 port 179: No route to host"), "peer r"),
    ("session-unknown", heard("bgpd does not answer", "Unknown"), "peer r"),
    ("session-unheard", heard("cannot connect: no Router Advertisement of the peer was heard yet"), "peer r"),
    ("session-no-interface", heard("cannot connect: there is no such interface"), "peer r"),
    ("session-no-answer", heard("the peer does not answer the attempt to connect (a wrong password looks the same)"), "peer r"),
    ("session-wrong-asn", heard("the peer sent OPEN Message Error/Bad Peer AS"), "peer r"),
    ("session-same-id", heard("the peer sent OPEN Message Error/Bad BGP Identifier"), "peer r"),
    ("session-hold-refused", heard("the peer sent OPEN Message Error/Unacceptable Hold Time"), "peer r"),
    ("session-peer-silent", heard("the peer sent nothing in the hold time of 9 s"), "peer r"),
    ("session-path-lost", heard("BFD: control detection time expired"), "peer r"),
    ("session-too-many-prefixes", heard("the peer announces more than 10 ipv4-unicast prefixes"), "peer r"),
    ("session-shut", heard('the peer sent Cease/Administrative Shutdown: "maintenance"'), "peer r"),
    ("session-not-configured", heard("the peer sent Cease/Connection Rejected"), "peer r"),
    ("session-cut", heard("Peer closed the session", "Idle"), "peer r"),
    ("session-failed", heard("something else", "Idle"), "peer r"),
]  # fmt: skip


def answer(items: list[Any], question: str) -> ReasonTree:
    options = next((item for item in items if isinstance(item, Options)), Options())
    observed = next((item for item in items if isinstance(item, Observed)), Observed())
    in_force = next((item for item in items if isinstance(item, Config)), None)
    objects = [item for item in items if isinstance(item, KubeObject)]
    rests = tuple(item for item in items if isinstance(item, Rest))
    settings = dict(item.split("=") for item in items if isinstance(item, str))
    speakers = [settings.pop("speakers")] if "speakers" in settings else None
    stopping = (settings.pop("stopping"),) if "stopping" in settings else ()
    incumbents = {key: value for key, value in settings.items() if "." in key}
    interfaces = {
        key: [value] if value else [] for key, value in settings.items() if "." not in key
    }
    snapshot = Snapshot.from_objects(
        objects, options, speakers=speakers, interfaces=interfaces, incumbents=incumbents
    )
    snapshot = msgspec.structs.replace(
        snapshot, resting=rests, now=6.0, observed=observed, in_force=in_force, stopping=stopping
    )
    kind, name, *focus = question.split()
    narrowed = Focus(**dict(item.split("=") for item in focus))
    return explain(plan(snapshot), kind, name, narrowed)


@pytest.mark.parametrize(
    ("code", "items", "question"),
    [row for row in ANSWERS if row[2] not in ELSEWHERE],
    ids=[f"{row[0]}: {row[2]}" for row in ANSWERS if row[2] not in ELSEWHERE],
)
def test_answer(code: str, items: list[Any], question: str) -> None:
    tree = answer(items, question)
    # A problem of the service may have the code of a reason; its line begins with the object.
    same = [item for item in walk(tree) if item.code == code]
    found = [item for item in same if not item.label.startswith("Service ")]
    assert found, flat(tree)
    for item in found:
        assert "{" not in item.label
        assert item.status == REASONS[code].verdict
        assert item.remedy or item.status != "no"


def test_every_reason_is_given_by_some_answer() -> None:
    # Reasons of changes are given by differences: test_decide_diff.
    wanted = {code for code in REASONS if not code.startswith("change-")}
    assert {code for code, _, _ in ANSWERS} == wanted


def test_the_manual_lists_every_reason() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        MANUAL.write_text(reasons_markdown())
    assert MANUAL.read_text() == reasons_markdown(), "run with UPDATE_GOLDEN=1"


@pytest.mark.parametrize("kind", list(QUESTIONS))
def test_what_does_not_exist_is_said(kind: str) -> None:
    tree = answer([P, WEB, L2], f"{kind} nothing")
    assert tree.status == "no"
    assert tree.children


@pytest.mark.parametrize(
    ("question", "meant"),
    [
        ("service shop", "shop/shop"),
        ("service dev/shop", "shop/shop"),
        ("service shop/shpo", "shop/shop"),
        ("pool brokn", "broken"),
        ("peer tor", "tor-1"),
    ],
)
def test_what_may_be_meant_is_said_even_of_what_is_set_aside(question: str, meant: str) -> None:
    broken = b.pool("broken", "192.0.2.0/33")
    items = [broken, b.service("shop/shop"), b.peer("tor-1", peer_asn=0), ASSUME]
    assert f"; did you mean {meant}?" in flat(answer(items, question))


def test_a_pool_says_for_whom_it_is() -> None:
    terms: dict[str, Any] = {
        "service_selectors": ["a=b", "c=d"],
        "namespaces": ["shop"],
        "priority": 7,
    }
    made = answer([b.pool("p", avoid_buggy=True, hold_down="10m", **terms)], "pool p")
    assert [child.label for child in made.children[1:6]] == [
        "only for namespaces shop",
        "only for services with a=b or c=d",
        "tried at priority 7",
        "avoids IPv4 addresses that end in .0 or .255",
        "a released address rests for 10m0s",
    ]


def test_problems_of_a_namesake_are_not_part_of_an_answer() -> None:
    old = {"metallb.universe.tf/address-pool": "p"}
    namesake = b.service("dev/web", annotations=old, created=1)
    ad = b.bgp_advertisement(length=31)
    made = plan(Snapshot.from_objects([b.pool("p", "192.0.2.0/31"), ad, WEB, namesake]))
    assert "is deprecated" in flat(explain(made, "service", "dev/web"))
    assert "is deprecated" not in flat(explain(made, "service", "default/web"))


def test_problems_of_an_object_are_part_of_the_answer() -> None:
    bad = answer([P, b.pool("q", "192.0.2.0/28")], "pool q")
    assert bad.status == "no"
    assert [item.code for item in walk(bad) if item.code] == ["pool-overlap"]
    peer = answer([b.peer("r", my_asn=0)], "peer r")
    assert [item.code for item in walk(peer) if item.code] == ["asn-missing"]


def test_an_address_answers_for_its_services_and_names_who_shares_it() -> None:
    items = [P, EP, *N, L2, b.service("web", share="k"), b.service("web2", share="k", ports=[81])]
    text = flat(answer(items, "address 192.0.2.0"))
    assert "service default/web" in text
    assert "is also the address of default/web2" in text


def test_a_node_says_what_it_does_not_announce_and_why() -> None:
    text = flat(answer([P, WEB, EP, *N, L2, b.node("n2", excluded=True)], "node n2"))
    assert "says nothing of 1 service" in text
    assert "layer 2: it is excluded" in text


def test_documents_are_plain_and_hold_no_password() -> None:
    objects = [P, WEB, EP, *N, L2, BGP, b.peer("r", password="hush")]
    made = plan(Snapshot.from_objects(objects))
    value = plan_document(made)
    assert value["schema"] == "clarion.plan/v1"
    assert value["services"]["default/web"]["addresses"] == ["192.0.2.0"]
    assert "hush" not in repr(value)
    tree = document(explain(made, "service", "web"))
    assert tree["status"] == "note", "decided, and not written yet"
