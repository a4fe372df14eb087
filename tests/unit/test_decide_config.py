"""Configuration rules, one line per case: objects, and the problems that they bring."""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import msgspec
import pytest

from clarion.decide.admission import judge
from clarion.decide.config import build_config
from clarion.decide.planner import Planner, plan
from clarion.decide.settings import LAST_PRIORITY
from clarion.decide.snapshot import Options, SecretFacts, Snapshot
from clarion.model.meta import LabelSelector, LabelSelectorRequirement
from clarion.model.metallb import SecretReference
from clarion.testing import builders as b

P = b.pool("p", "192.0.2.0/28")
P6 = b.pool("p", "2001:db8::/120")
DUAL = b.pool("p", "192.0.2.0/28", "2001:db8::/120")
AD = b.bgp_advertisement("ad")
L2 = b.l2_advertisement("l2")
R = b.peer("r")
BAD_SELECTOR = LabelSelector(
    match_expressions=(LabelSelectorRequirement(key="a", operator="Near", values=("b",)),)
)
SECRET = SecretReference(name="s")
FRR = Options(backend="frr")


def replaced(obj: Any, **spec: Any) -> Any:
    return msgspec.structs.replace(obj, spec=msgspec.structs.replace(obj.spec, **spec))


def renamed(obj: Any, **meta: Any) -> Any:
    return msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, **meta))


def peer(**spec: Any) -> Any:
    return b.peer("r", **spec)


def peer2(**spec: Any) -> Any:
    return b.peer("s", **spec)


def annotated(obj: Any, key: str, value: str) -> Any:
    return renamed(obj, annotations={key: value})


# Objects -> problem code and field. Options as first item where they matter.
CASES: list[tuple[str, str, list[Any]]] = [
    # Any object.
    ("name-missing", "metadata.name", [renamed(P, name=""), L2]),
    ("name-taken", "metadata.name", [P, renamed(P, namespace="zz"), L2]),
    ("wrong-namespace", "metadata.namespace", [Options(namespace="elsewhere"), P]),
    ("wrong-namespace", "metadata.namespace", [Options(namespace="elsewhere"), b.community()]),
    ("selector-invalid", "spec.nodeSelectors[0].matchExpressions[0].operator", [P, replaced(L2, node_selectors=(BAD_SELECTOR,))]),
    ("selector-invalid", "spec.nodeSelectors[0].matchExpressions[0].operator", [P, L2, replaced(R, node_selectors=(BAD_SELECTOR,))]),
    ("duplicate-entry", "spec.ipAddressPools[1]", [P, b.l2_advertisement(pools=["p", "p"])]),
    ("duplicate-entry", "spec.nodeSelectors[1]", [P, b.l2_advertisement(nodes=["a=b", "a=b"])]),
    ("duplicate-entry", "spec.peers[1]", [P, R, b.bgp_advertisement(peers=["r", "r"])]),
    ("duplicate-entry", "spec.communities[1]", [P, R, b.bgp_advertisement(communities=["1:1", "1:1"])]),
    ("selector-selects-nothing", "spec.ipAddressPoolSelectors[0]", [P, b.l2_advertisement(pools=["p"], pool_selectors=["a=b"])]),
    ("selector-selects-nothing", "spec.nodeSelectors[0]", [P, b.node("n"), b.l2_advertisement(nodes=["a=b"])]),
    ("selector-invalid", "spec.preferredNodeSelectors[0].preference.matchLabels[a b]", [P, b.l2_advertisement(prefer={"a b=c": 1})]),
    ("selector-invalid", "spec.serviceAllocation.serviceSelectors[0].matchLabels[a]", [b.pool("p", service_selectors=["a=b c"]), L2]),
    ("selector-selects-nothing", "spec.preferredNodeSelectors[0].preference", [P, b.node("n"), b.l2_advertisement(prefer={"a=b": 1})]),
    ("annotation-unknown", "metadata.annotations[clarion.metallb.io/reservd]", [annotated(P, "clarion.metallb.io/reservd", "192.0.2.1"), L2]),
    ("annotation-unknown", "metadata.annotations[clarion.metalb.io/reserved]", [annotated(P, "clarion.metalb.io/reserved", "192.0.2.1"), L2]),
    ("annotation-unknown", "metadata.annotations[metallb.io/auto-assign]", [annotated(P, "metallb.io/auto-assign", "false"), L2]),
    ("annotation-without-effect", "metadata.annotations[metallb.io/address-pool]", [P, annotated(L2, "metallb.io/address-pool", "p")]),
    ("annotation-without-effect", "metadata.annotations[clarion.metallb.io/passive]", [annotated(P, "clarion.metallb.io/passive", "true"), L2]),
    # Pools.
    ("pool-empty", "spec.addresses", [replaced(P, addresses=()), L2]),
    ("address-invalid", "spec.addresses[0]", [b.pool("p", "192.0.2.0/33"), L2]),
    ("address-invalid", "spec.addresses[0]", [b.pool("p", "192.0.2.1"), L2]),
    ("address-invalid", "spec.addresses[1]", [b.pool("p", "192.0.2.0/24", "192.0.3.9-192.0.3.1"), L2]),
    ("address-invalid", "spec.addresses[0]", [b.pool("p", "192.0.2.1-2001:db8::1"), L2]),
    ("pool-overlap", "spec.addresses[0]", [P, b.pool("q", "192.0.2.8-192.0.2.40"), L2]),
    ("pool-overlap", "spec.addresses[1]", [P, b.pool("q", "198.51.100.0/24", "192.0.2.15/32"), L2]),
    ("pool-overlaps-itself", "spec.addresses[1]", [b.pool("p", "192.0.2.0/28", "192.0.2.0/30"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "224.0.0.0/28"), L2]),
    ("pool-unusable", "spec.addresses[1]", [b.pool("p", "192.0.2.0/28", "127.0.0.1/32"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "169.254.1.0/24"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "0.0.0.0/32"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "240.0.0.0/32"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "255.255.255.255/32"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "223.255.255.250-224.0.0.3"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "::/127"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "::ffff:192.0.2.0/120"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "fe80::1:0/112"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "ff02::1:0/112"), L2]),
    ("pool-unusable", "spec.addresses[0]", [b.pool("p", "100::/120"), L2]),
    ("pool-all-avoided", "spec.avoidBuggyIPs", [b.pool("p", "192.0.2.0/32", "192.0.2.255-192.0.3.0", avoid_buggy=True), L2]),
    ("pool-not-advertised", "spec", [P]),
    ("reserved-invalid", "metadata.annotations[clarion.metallb.io/reserved]", [b.pool("p", reserved="192.0.2.1, web"), L2]),
    ("reserved-invalid", "metadata.annotations[clarion.metallb.io/reserved]", [b.pool("p", reserved="192.0.2.1,,192.0.2.2"), L2]),
    ("reserved-invalid", "metadata.annotations[clarion.metallb.io/reserved]", [b.pool("p", reserved="192.0.2.9-192.0.2.1"), L2]),
    ("reserved-outside-pool", "metadata.annotations[clarion.metallb.io/reserved]", [b.pool("p", reserved="198.51.100.1"), L2]),
    ("reserved-outside-pool", "metadata.annotations[clarion.metallb.io/reserved]", [b.pool("p", reserved="192.0.2.0/24"), L2]),
    ("hold-down-invalid", "metadata.annotations[clarion.metallb.io/hold-down]", [b.pool("p", hold_down="soon"), L2]),
    ("hold-down-invalid", "metadata.annotations[clarion.metallb.io/hold-down]", [b.pool("p", hold_down="-3s"), L2]),
    ("namespace-unknown", "spec.serviceAllocation.namespaces[0]", [b.pool("p", namespaces=["prod"]), b.namespace("prd"), L2]),
    ("selector-selects-nothing", "spec.serviceAllocation.namespaceSelectors[0]", [b.pool("p", namespace_selectors=["a=b"]), L2]),
    ("duplicate-entry", "spec.serviceAllocation.namespaces[1]", [b.pool("p", namespaces=["x", "x"]), L2]),
    # Communities.
    ("community-invalid", "spec.communities[0].value", [b.community(x="70000:1")]),
    ("community-invalid", "spec.communities[0].value", [b.community(x="1:2:3")]),
    ("community-invalid", "spec.communities[0]", [P, R, b.bgp_advertisement(communities=["huge:1:2:3"])]),
    ("community-invalid", "spec.communities[0]", [P, R, b.bgp_advertisement(communities=["extended:rt:65536:65536"])]),
    ("link-bandwidth-invalid", "metadata.annotations[clarion.metallb.io/link-bandwidth]", [P, R, annotated(AD, "clarion.metallb.io/link-bandwidth", "10G")]),
    ("alias-taken", "spec.communities[0].name", [b.community("c1", x="1:1"), b.community("c2", x="1:2")]),
    ("alias-empty", "spec.communities[0].name", [b.community("c", {"": "1:1"})]),
    ("alias-hides-well-known", "spec.communities[0].name", [b.community("c", {"no-export": "1:1"})]),
    ("alias-unknown", "spec.communities[0]", [P, R, b.bgp_advertisement(communities=["no-exprt"])]),
    ("too-many-communities", "spec.communities", [P, R, b.bgp_advertisement(communities=[f"1:{i}" for i in range(64)])]),
    # BGP advertisements.
    ("aggregation-out-of-range", "spec.aggregationLength", [P, R, b.bgp_advertisement(length=33)]),
    ("aggregation-out-of-range", "spec.aggregationLength", [P6, R, b.bgp_advertisement(length=0)]),
    ("aggregation-out-of-range", "spec.aggregationLengthV6", [P, R, b.bgp_advertisement(length6=129)]),
    ("aggregation-too-short", "spec.aggregationLength", [P, R, b.bgp_advertisement(length=26)]),
    ("aggregation-too-short", "spec.aggregationLengthV6", [P6, R, b.bgp_advertisement(length6=64)]),
    ("aggregation-too-short", "spec.aggregationLength", [b.pool("p", "192.0.2.2-192.0.2.254"), R, b.bgp_advertisement(length=24)]),
    ("aggregate-beyond-pool", "spec.aggregationLength", [b.pool("p", "192.0.2.2-192.0.2.254"), R, b.bgp_advertisement(length=26)]),
    ("aggregation-with-service-selectors", "spec.serviceSelectors", [P, R, b.bgp_advertisement(length=28, services=["a=b"])]),
    ("local-pref-range", "spec.localPref", [P, R, b.bgp_advertisement(local_pref=1 << 32)]),
    ("local-pref-conflict", "spec.localPref", [P, R, AD, b.bgp_advertisement("b", local_pref=9)]),
    ("pool-unknown", "spec.ipAddressPools[1]", [P, b.l2_advertisement(pools=["p", "pp"])]),
    ("peer-unknown", "spec.peers[0]", [P, R, b.bgp_advertisement(peers=["rr"])]),
    ("advertisement-without-pool", "spec", [b.l2_advertisement()]),
    ("advertisement-without-peer", "spec", [P, AD]),
    # L2 advertisements.
    ("preference-weight", "spec.preferredNodeSelectors[0].weight", [P, b.l2_advertisement(prefer={"a=b": 101})]),
    ("interface-name-invalid", "spec.interfaces[1]", [P, b.l2_advertisement(interfaces=["eth0", "eth*"])]),
    ("interface-name-invalid", "spec.interfaces[0]", [P, b.l2_advertisement(interfaces=["enp0s31f6-uplink-0"])]),
    ("interface-name-invalid", "spec.interfaces[0]", [P, b.l2_advertisement(interfaces=["eth0:1"])]),
    ("interface-name-invalid", "spec.interfaces[0]", [P, b.l2_advertisement(interfaces=[""])]),
    # Peers.
    ("asn-missing", "spec.myASN", [peer(my_asn=0)]),
    ("asn-range", "spec.peerASN", [peer(peer_asn=1 << 32)]),
    ("asn-reserved", "spec.myASN", [peer(my_asn=65535)]),
    ("asn-reserved", "spec.peerASN", [peer(peer_asn=23456)]),
    ("asn-reserved", "spec.localASN", [peer(local_asn=4294967295)]),
    ("peer-asn-missing", "spec.peerASN", [peer(peer_asn=0)]),
    ("peer-asn-twice", "spec.dynamicASN", [FRR, peer(dynamic_asn="external")]),
    ("dynamic-asn-invalid", "spec.dynamicASN", [FRR, peer(peer_asn=0, dynamic_asn="inside")]),
    ("multihop-internal", "spec.ebgpMultiHop", [peer(peer_asn=64500, ebgp_multi_hop=True)]),
    ("peer-address-missing", "spec.peerAddress", [peer(address="")]),
    ("peer-address-twice", "spec.interface", [FRR, peer(interface="eth0")]),
    ("ip-invalid", "spec.peerAddress", [peer(address="router.example")]),
    ("ip-invalid", "spec.sourceAddress", [peer(source_address="10.0.0.256")]),
    ("peer-address-unusable", "spec.peerAddress", [peer(address="224.0.0.5")]),
    ("peer-address-unusable", "spec.peerAddress", [peer(address="0.0.0.0")]),
    ("peer-address-unusable", "spec.peerAddress", [peer(address="fe80::1")]),
    ("peer-inside-pool", "spec.peerAddress", [P, AD, peer(address="192.0.2.1")]),
    ("peer-twice", "spec.peerAddress", [R, b.peer("s")]),
    ("peer-twice", "spec.peerAddress", [b.node("n", "a=1,b=1"), b.peer("r", nodes=["a=1"]), b.peer("s", nodes=["b=1"])]),
    ("source-address-family", "spec.sourceAddress", [peer(source_address="2001:db8::1")]),
    ("router-id-zero", "spec.routerID", [peer(router_id="0.0.0.0")]),
    ("router-id-shared", "spec.routerID", [b.node("n"), b.node("o"), peer(router_id="192.0.2.1")]),
    ("router-id-not-ipv4", "spec.routerID", [peer(router_id="2001:db8::1")]),
    ("peer-port-range", "spec.peerPort", [peer(peer_port=65536)]),
    ("duration-invalid", "spec.holdTime", [peer(hold_time="ninety")]),
    ("hold-time-range", "spec.holdTime", [peer(hold_time="2s")]),
    ("hold-time-range", "spec.holdTime", [peer(hold_time="2999ms")]),
    ("keepalive-above-hold", "spec.keepaliveTime", [peer(hold_time="9s", keepalive_time="10s")]),
    ("keepalive-above-hold", "spec.keepaliveTime", [peer(hold_time="0s", keepalive_time="10s")]),
    ("keepalive-above-third", "spec.keepaliveTime", [peer(hold_time="9s", keepalive_time="9s")]),
    ("keepalive-above-third", "spec.keepaliveTime", [peer(hold_time="90s", keepalive_time="31s")]),
    ("duration-invalid", "spec.holdTime", [peer(hold_time="9" * 400 + "s")]),
    ("passive-invalid", "metadata.annotations[clarion.metallb.io/passive]", [annotated(R, "clarion.metallb.io/passive", "yes")]),
    ("connect-time-range", "spec.connectTime", [peer(connect_time="500ms")]),
    ("password-twice", "spec.passwordSecret", [b.secret("s", "x"), peer(password="y", password_secret=SECRET)]),
    ("password-too-long", "spec.password", [peer(password="x" * 79 + "é")]),
    ("password-too-long", "spec.passwordSecret", [b.secret("s", "x" * 81), peer(password_secret=SECRET)]),
    ("secret-missing", "spec.passwordSecret", [peer(password_secret=SECRET)]),
    ("secret-not-given", "spec.passwordSecret", [Options(assume_cluster=True), peer(password_secret=SECRET)]),
    ("secret-type", "spec.passwordSecret", [b.secret("s", "x", "Opaque"), peer(password_secret=SECRET)]),
    ("secret-without-password", "spec.passwordSecret", [b.secret("s", None), peer(password_secret=SECRET)]),
    ("bfd-profile-missing", "spec.bfdProfile", [FRR, peer(bfd_profile="fast")]),
    ("annotation-number", "metadata.annotations[clarion.metallb.io/ttl-security]", [annotated(R, "clarion.metallb.io/ttl-security", "255")]),
    ("annotation-number", "metadata.annotations[clarion.metallb.io/ttl-security]", [annotated(R, "clarion.metallb.io/ttl-security", "true")]),
    ("annotation-number", "metadata.annotations[clarion.metallb.io/max-prefixes]", [annotated(R, "clarion.metallb.io/max-prefixes", "0")]),
    ("annotation-number", "metadata.annotations[clarion.metallb.io/max-prefixes]", [annotated(R, "clarion.metallb.io/max-prefixes", "4294967296")]),
    ("ttl-security-multihop", "metadata.annotations[clarion.metallb.io/ttl-security]", [annotated(peer(ebgp_multi_hop=True), "clarion.metallb.io/ttl-security", "2")]),
    ("local-asn-internal", "spec.localASN", [peer(local_asn=64999, my_asn=64501, peer_asn=64501)]),
    ("local-asn-of-peer", "spec.localASN", [peer(local_asn=64501, my_asn=64500, peer_asn=64501)]),
    ("field-deprecated", "spec.disableMP", [peer(disable_mp=True)]),
    ("router-id-conflict", "spec.routerID", [FRR, peer(router_id="192.0.2.1"), b.peer("s", "198.51.100.2")]),
    ("peer-target-conflict", "spec.peerAddress", [FRR, R, b.peer("s", peer_port=1179)]),
    ("my-asn-conflict", "spec.myASN", [FRR, R, b.peer("s", "198.51.100.2", my_asn=64999)]),
    ("echo-with-ipv6", "spec.bfdProfile", [FRR, P6, AD, b.bfd_profile(echo_mode=True), peer(bfd_profile="bfd")]),
    # BFD profiles.
    ("bfd-range", "spec.detectMultiplier", [b.bfd_profile(detect_multiplier=1)]),
    ("bfd-range", "spec.minimumTtl", [b.bfd_profile(minimum_ttl=255)]),
]  # fmt: skip

# Problems that need more than a list of objects have a test of their own below. Those that set
# objects against the cluster or the plan are in test_decide_cluster.py, where all are counted.
ELSEWHERE = {
    *("last-good-kept", "interface-unknown", "no-nodes", "address-announced-twice"),
    *("frr-refuses", "frr-cannot-hold"),
}


def split(items: list[Any]) -> tuple[Options, list[Any]]:
    options = next((item for item in items if isinstance(item, Options)), Options())
    return options, [item for item in items if not isinstance(item, Options)]


@pytest.mark.parametrize(("code", "path", "items"), CASES, ids=[f"{c}@{p}" for c, p, _ in CASES])
def test_problem(code: str, path: str, items: list[Any]) -> None:
    options, objects = split(items)
    problems = build_config(Snapshot.from_objects(objects, options)).problems
    assert (code, path) in [(item.code, item.path) for item in problems]
    for item in problems:
        # Every text can be filled, and says what to do.
        assert "{" not in item.message
        assert item.message
        assert item.remedy
    others = {item.code for item in problems if item.severity == "error"} - {code}
    assert not others, "an unrelated error distracts from the one that matters"


VALID: list[tuple[str, list[Any]]] = [
    ("v4 and v6 in one pool", [DUAL, L2]),
    ("a range with spaces", [b.pool("p", "192.0.2.1 - 192.0.2.9"), L2]),
    ("reserved: an address, a prefix, a range, over two ranges that touch", [b.pool("p", "192.0.2.0/29", "192.0.2.8/29", reserved=" 192.0.2.1,192.0.2.2/31 , 192.0.2.6 - 192.0.2.9"), L2]),
    ("a hold-down", [b.pool("p", hold_down="1h30m"), L2]),
    ("host bits are dropped", [b.pool("p", "192.0.2.77/28"), L2]),
    ("touching pools", [P, b.pool("q", "192.0.2.16/28"), L2]),
    ("a range pool takes the length of its largest piece", [b.pool("p", "192.0.2.0-192.0.2.127"), R, b.bgp_advertisement(length=25)]),
    ("two local preferences for two lengths", [P, R, AD, b.bgp_advertisement("b", length=28, local_pref=9)]),
    ("two local preferences for two peers", [P, R, b.peer("s", "198.51.100.2"), b.bgp_advertisement("a", peers=["r"]), b.bgp_advertisement("b", peers=["s"], local_pref=9)]),
    ("two local preferences on disjoint nodes", [P, R, b.node("n1", "a=1"), b.node("n2", "a=2"), b.bgp_advertisement("a", nodes=["a=1"]), b.bgp_advertisement("b", nodes=["a=2"], local_pref=9)]),
    ("two local preferences of which one is for some services", [P, R, AD, b.bgp_advertisement("b", services=["a=b"], local_pref=9)]),
    ("well-known names in both spellings", [P, R, b.bgp_advertisement(communities=["no-advertise", "NO_EXPORT"])]),
    ("hold time 0", [peer(hold_time="0s")]),
    ("all timers", [peer(hold_time="9s", keepalive_time="3s", connect_time="10s")]),
    ("large communities on the native speaker", [P, R, b.bgp_advertisement(communities=["large:1:2:3"])]),
    ("extended communities on the native speaker", [P, R, b.bgp_advertisement(communities=["extended:rt:64512:1", "extended:0x4300000000000001"])]),
    ("VRF and unnumbered on the native speaker", [peer(vrf="red"), b.peer("s", "", interface="eth1")]),
    ("dynamicASN on the native speaker", [peer(peer_asn=0, dynamic_asn="external")]),
    ("localASN on the native speaker", [peer(local_asn=64999)]),
    ("the ends of what annotations of a peer may say", [renamed(R, annotations={"clarion.metallb.io/ttl-security": "254", "clarion.metallb.io/max-prefixes": "4294967295"})]),
    ("IPv6 on the native speaker", [P6, AD, R]),
    ("FRR peers on disjoint nodes", [FRR, b.node("n1", "a=1"), b.node("n2", "a=2"), b.peer("r", nodes=["a=1"]), b.peer("s", nodes=["a=2"], router_id="192.0.2.1")]),
    ("annotations of others", [renamed(P, annotations={"example.org/address-pool": "x", "metal3.io/hold-down": "y", "kube-vip.io/loadbalancerIPs": "z", "note": "a"}), L2]),
    ("what conversion keeps of a peer", [annotated(R, "clarion.metallb.io/conversion-data", "{}")]),
    ("the ends of the blocks that are special", [b.pool("p", "1.0.0.0/32", "126.255.255.255/32", "128.0.0.0/32", "223.255.255.255/32", "::2/128", "fe00::/128", "fec0::/128"), L2]),
    ("addresses that end in .0 and .255, and others", [b.pool("p", "192.0.2.255-192.0.3.1", avoid_buggy=True), L2]),
    ("two ports of one router", [R, peer2(peer_port=1179)]),
    ("one router from two addresses", [peer(source_address="198.51.100.8"), peer2(source_address="198.51.100.9")]),
    ("one router from disjoint nodes", [b.node("n1", "a=1"), b.node("n2", "a=2"), b.peer("r", nodes=["a=1"]), b.peer("s", nodes=["a=2"])]),
    ("a router ID on one node", [b.node("n1", "a=1"), b.node("n2"), b.peer("r", nodes=["a=1"], router_id="192.0.2.1")]),
    ("a peer beside the pool, on this machine, or link-local in IPv4", [P, AD, b.peer("r", "192.0.2.16"), b.peer("s", "127.0.0.1"), b.peer("t", "169.254.1.1")]),
    ("a third of the hold time, rounded up", [peer(hold_time="10s", keepalive_time="4s")]),
    ("a community alias that equals the well-known value", [b.community("c", {"no-export": "65535:65281"})]),
]  # fmt: skip


@pytest.mark.parametrize(("label", "items"), VALID, ids=[label for label, _ in VALID])
def test_no_problem(label: str, items: list[Any]) -> None:
    options, objects = split(items)
    problems = build_config(Snapshot.from_objects(objects, options)).problems
    assert [(item.code, item.message) for item in problems] == []


def test_a_bad_object_takes_nothing_else_with_it() -> None:
    objects = [P, b.pool("bad", "nonsense"), L2, b.l2_advertisement("worse", prefer={"a": 0}), R]
    result = build_config(Snapshot.from_objects(objects))
    assert set(result.config.pools) == {"p"}
    assert set(result.config.l2) == {"l2"}
    assert set(result.config.peers) == {"r"}
    assert result.config.pools["p"].l2 == ("l2",)


def test_two_hundred_broken_objects_give_two_hundred_problems() -> None:
    pools = [b.pool(f"p{i}", "nonsense") for i in range(200)]
    result = build_config(Snapshot.from_objects(pools))
    assert len(result.errors) == 200


def test_of_two_overlapping_pools_the_older_stays() -> None:
    old, new = b.pool("z", "192.0.2.0/28", created=1), b.pool("a", "192.0.2.0/28", created=2)
    assert set(build_config(Snapshot.from_objects([new, old])).config.pools) == {"z"}


def test_conflicts_are_told_against_all_that_stays_whoever_came_first() -> None:
    items = (
        b.pool("p"),
        b.bgp_advertisement("b1"),
        b.bgp_advertisement("b2", local_pref=100),
        b.bgp_advertisement("b3"),
    )
    snapshot = Snapshot.from_objects(items)
    first = build_config(snapshot)
    errors = [problem for problem in first.problems if problem.severity == "error"]
    assert [str(problem.related[0]) for problem in errors] == [
        "BGPAdvertisement metallb-system/b1",
        "BGPAdvertisement metallb-system/b3",
    ]
    assert build_config(snapshot, first.config).problems == first.problems


def test_the_last_good_version_of_an_object_stays_in_force() -> None:
    good = build_config(Snapshot.from_objects([P, b.pool("q", "192.0.2.16/28"), L2])).config
    for broken in ("nonsense", "192.0.2.16/27"):
        now = Snapshot.from_objects([b.pool("p", broken), b.pool("q", "192.0.2.16/28"), L2])
        result = build_config(now, good)
        assert result.config == good
        assert "last-good-kept" in [item.code for item in result.problems]
        assert result.errors
    corrected = Snapshot.from_objects([b.pool("p", "192.0.2.0/29"), L2])
    result = build_config(corrected, good)
    assert result.problems == ()
    assert str(result.config.pools["p"].ranges[0]) == "192.0.2.0-192.0.2.7"


def test_a_deprecated_field_hides_no_other_problem() -> None:
    result = build_config(Snapshot.from_objects([peer(disable_mp=True, my_asn=0)]))
    assert {item.code for item in result.problems} == {"field-deprecated", "asn-missing"}


def test_a_reverted_change_leaves_no_problem() -> None:
    planner = Planner()
    for obj in (P, L2, b.pool("p", "nonsense"), P):
        planner.put(obj)
        planner.refresh()
        broken = obj.spec != P.spec and obj is not L2
        assert any(item.severity == "error" for item in planner.problems) is broken
    assert planner.problems == ()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("clarion.metallb.io/Reserved", "clarion.metallb.io/reserved"),
        ("clarion.metallb.io/holddown", "clarion.metallb.io/hold-down"),
        ("metallb.io/hold-down", "clarion.metallb.io/hold-down"),
        ("metallb.universe.tf/reserve", "clarion.metallb.io/reserved"),
        ("metallb.io/colour", ""),
    ],
)
def test_a_misspelt_annotation_brings_the_key_that_is_meant(key: str, meant: str) -> None:
    objects = [annotated(P, key, "x"), L2]
    (found,) = build_config(Snapshot.from_objects(objects)).problems
    assert found.message.endswith(f"; did you mean {meant}?" if meant else "is read")


def test_hints_name_the_nearest() -> None:
    result = build_config(Snapshot.from_objects([P, b.l2_advertisement(pools=["pp"])]))
    assert "did you mean p?" in next(i.message for i in result.problems if i.code == "pool-unknown")


def test_interfaces_are_judged_once_all_nodes_told_theirs() -> None:
    objects = [P, b.l2_advertisement(interfaces=["eth7"]), b.node("n1"), b.node("n2")]
    for known, expected in (
        ({"n1": ["eth0"]}, []),
        ({"n1": ["eth0"], "n2": []}, ["interface-unknown"]),
    ):
        snapshot = Snapshot.from_objects(objects, interfaces=known)
        assert [item.code for item in build_config(snapshot).problems] == expected


def test_a_plan_from_manifests_without_nodes_says_so() -> None:
    snapshot = Snapshot.from_objects([P, L2], Options(assume_cluster=True))
    assert [item.code for item in plan(snapshot).problems] == ["no-nodes"]


def test_two_owners_of_a_shared_address_are_noticed() -> None:
    # The dual service is elected by its IPv4 address, the other by IPv6: MetalLB has this trap.
    v6 = "2001:db8::"
    for number in range(16):
        objects = [
            *(DUAL, L2, b.node("n1"), b.node("n2"), b.endpoints("a", "n1"), b.endpoints("b", "n1")),
            b.service("a", families=(4, 6), share="k", ingress=(f"192.0.2.{number}", v6)),
            b.service("b", families=(6,), share="k", ports=[81], ingress=(v6,)),
        ]
        made = plan(Snapshot.from_objects(objects))
        owners = {item.l2.owner for item in made.services.values()}
        codes = [item.code for item in made.problems]
        assert codes == (["address-announced-twice"] if len(owners) == 2 else [])
        if len(owners) == 2:
            assert "2001:db8::" in made.problems[0].message
            return
    pytest.fail("no address separates the two owners")


def test_values_of_a_peer() -> None:
    spec = {"hold_time": "10s", "connect_time": "5s", "router_id": "192.0.2.9", "peer_port": 1179}
    result = build_config(Snapshot.from_objects([peer(**spec)]))
    made = result.config.peers["r"]
    assert (made.hold_time, made.connect_time, made.port) == (10.0, 5.0, 1179)
    assert made.keepalive_time == pytest.approx(10 / 3)
    assert str(made.router_id) == "192.0.2.9"
    only_keepalive = build_config(Snapshot.from_objects([peer(keepalive_time="5s")]))
    assert only_keepalive.config.peers["r"].hold_time == 15.0
    assert build_config(Snapshot.from_objects([R])).config.peers["r"].hold_time is None


def test_families_of_a_session() -> None:
    cases = [
        (Options(), R, {4, 6}),
        (FRR, R, {4}),
        (FRR, b.peer("r", "2001:db8::1"), {6}),
        (FRR, peer(dual_stack_address_family=True), {4, 6}),
        (FRR, peer(address="", interface="eth0"), {4, 6}),
    ]
    for options, obj, expected in cases:
        config = build_config(Snapshot.from_objects([obj], options)).config
        assert config.peers["r"].families == expected


def test_passwords_come_from_the_secret_and_show_nowhere() -> None:
    snapshot = Snapshot.from_objects([b.secret("s", "hush"), peer(password_secret=SECRET)])
    made = build_config(snapshot).config.peers["r"]
    assert made.password == "hush"
    assert "hush" not in repr(made)
    assert "hush" not in repr(snapshot)
    plain = renamed(
        peer(password="hush"),
        annotations={"kubectl.kubernetes.io/last-applied-configuration": '{"password":"hush"}'},
    )
    for shown in (snapshot, Snapshot.from_objects([plain])):
        assert b"hush" not in msgspec.json.encode(shown.redacted())


def test_secret_data_is_base64() -> None:
    secret = b.secret("s", None)
    encoded = msgspec.structs.replace(secret, data={"password": "aHVzaA=="})
    assert SecretFacts.of(encoded).password == "hush"
    broken = msgspec.structs.replace(secret, data={"password": "?"})
    assert not SecretFacts.of(broken).has_password


def test_priority_zero_comes_last() -> None:
    pools = [b.pool("a", priority=0), b.pool("b", "198.51.100.0/24", priority=5)]
    config = build_config(Snapshot.from_objects(pools)).config
    assert [config.pools[name].priority for name in "ab"] == [LAST_PRIORITY, 5]


ADMISSION: list[tuple[str, list[Any], Any, list[str]]] = [
    ("a valid pool", [], P, []),
    ("a broken pool", [], b.pool("p", "nonsense"), ["address-invalid"]),
    ("an overlap with what is stored", [b.pool("q", "192.0.2.0/28", created=1)], P, ["pool-overlap"]),
    ("an update of an older pool onto a younger one", [b.pool("p", "192.0.2.16/28", created=1), b.pool("q", "192.0.2.0/28", created=2)], b.pool("p", "192.0.2.0/28", created=1), ["pool-overlap"]),
    ("a broken neighbour is no obstacle", [b.pool("q", "nonsense", created=1)], P, []),
    ("an alias that may come later", [P], b.bgp_advertisement(communities=["later"]), []),
    ("a BFD profile that may come later", [], peer(bfd_profile="later"), []),
    ("a pool that may come later", [], b.l2_advertisement(pools=["later"]), []),
    ("a pool that breaks an aggregation", [AD, R, b.bgp_advertisement("agg", length=20, created=1)], b.pool("p", "192.0.2.0/24"), ["aggregation-too-short"]),
    ("an update replaces its namesake", [P], b.pool("p", "192.0.2.0/29"), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "stored", "candidate", "expected"), ADMISSION, ids=[row[0] for row in ADMISSION]
)
def test_admission(label: str, stored: list[Any], candidate: Any, expected: list[str]) -> None:
    refused = judge(Snapshot.from_objects(stored), candidate).errors
    assert [item.code for item in refused] == expected


@pytest.mark.parametrize(("value", "passive"), [("true", True), ("false", False), ("", False)])
def test_a_peer_that_is_waited_for(value: str, passive: bool) -> None:
    obj = renamed(R, annotations={"clarion.metallb.io/passive": value})
    assert build_config(Snapshot.from_objects([obj])).config.peers["r"].passive is passive


def test_a_port_that_nobody_wrote_is_that_of_bgp() -> None:
    assert build_config(Snapshot.from_objects([peer(peer_port=0)])).config.peers["r"].port == 179
