"""What MetalLB refuses, rule by rule, and what Clarion says to the same objects.

The first column is the kind and the rule of MetalLB's own validation (its `internal/config`). Where
Clarion differs on purpose, `docs/compatibility.md` says why.
"""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import pytest

from clarion.decide.config import build_config
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.meta import LabelSelector, LabelSelectorRequirement
from clarion.model.metallb import BFDProfile, CommunityAlias, SecretReference
from clarion.testing import builders as b

from .test_decide_config import annotated, renamed, replaced, split

FRR = Options(backend="frr")
NATIVE = Options(backend="native")
P, DUAL = b.pool("p", "192.0.2.0/28"), b.pool("p", "192.0.2.0/28", "2001:db8::/120")
V6 = b.pool("p", "2001:db8::/120")
L2, BGP, R = b.l2_advertisement("l2"), b.bgp_advertisement("bgp"), b.peer("r")
ECHO, SLOW = b.bfd_profile("echo", echo_mode=True), b.bfd_profile("slow")
ALIAS = CommunityAlias(name="x", value="1:1")
SECRET = SecretReference(name="s")


def peer(name: str = "r", address: str = "198.51.100.1", **spec: Any) -> Any:
    return b.peer(name, address, **spec)


def rule(key: str, operator: str, *values: str) -> LabelSelectorRequirement:
    return LabelSelectorRequirement(key=key, operator=operator, values=values)


def where(*rules: LabelSelectorRequirement) -> tuple[LabelSelector, ...]:
    return (LabelSelector(match_expressions=rules),)


TWICE = (*where(rule("a", "Exists")), *where(rule("a", "Exists")))
EXPRESSION_TWICE = where(rule("a", "In", "b"), rule("a", "In", "b"))
VALUE_TWICE = where(rule("a", "In", "b", "b"))
NO_KEY, NO_OPERATOR = where(rule("", "Exists")), where(rule("a", ""))
WRONG_OPERATOR, NO_VALUE = where(rule("a", "Near", "b")), where(rule("a", "In"))

# Rule of MetalLB -> our error ("" where we accept it), objects.
RULES: list[tuple[str, str, list[Any]]] = [
    ("BFDProfile: missing name", "name-missing", [renamed(SLOW, name="")]),
    ("BFDProfile: duplicate name", "name-taken", [SLOW, renamed(SLOW, namespace="other")]),
    ("BFDProfile: receiveInterval 10..60000", "bfd-range", [b.bfd_profile(receive_interval=9)]),
    ("BFDProfile: receiveInterval 10..60000", "bfd-range", [b.bfd_profile(receive_interval=60001)]),
    ("BFDProfile: receiveInterval 10..60000", "", [b.bfd_profile(receive_interval=10)]),
    ("BFDProfile: transmitInterval 10..60000", "bfd-range", [b.bfd_profile(transmit_interval=9)]),
    ("BFDProfile: transmitInterval 10..60000", "bfd-range", [b.bfd_profile(transmit_interval=60001)]),
    ("BFDProfile: detectMultiplier 2..255", "bfd-range", [b.bfd_profile(detect_multiplier=1)]),
    ("BFDProfile: detectMultiplier 2..255", "bfd-range", [b.bfd_profile(detect_multiplier=256)]),
    ("BFDProfile: echoInterval 10..60000", "bfd-range", [b.bfd_profile(echo_interval=9)]),
    ("BFDProfile: echoInterval 10..60000", "bfd-range", [b.bfd_profile(echo_interval=60001)]),
    ("BFDProfile: minimumTtl 1..254", "bfd-range", [b.bfd_profile(minimum_ttl=0)]),
    ("BFDProfile: minimumTtl 1..254", "bfd-range", [b.bfd_profile(minimum_ttl=255)]),
    ("BFDProfile: all at their ends", "", [b.bfd_profile(receive_interval=60000, transmit_interval=10, detect_multiplier=255, echo_interval=60000, minimum_ttl=254)]),
    ("BGPPeer 1: myASN is 0", "asn-missing", [peer(my_asn=0)]),
    ("BGPPeer 2: neither peerASN nor dynamicASN", "peer-asn-missing", [peer(peer_asn=0)]),
    ("BGPPeer 2: both", "peer-asn-twice", [FRR, peer(dynamic_asn="internal")]),
    ("BGPPeer 2: dynamicASN neither internal nor external", "dynamic-asn-invalid", [FRR, peer(peer_asn=0, dynamic_asn="both")]),
    ("BGPPeer 3: ebgpMultiHop within one AS", "multihop-internal", [peer(peer_asn=64500, ebgp_multi_hop=True)]),
    ("BGPPeer 4: neither peerAddress nor interface", "peer-address-missing", [FRR, peer(address="")]),
    ("BGPPeer 4: both", "peer-address-twice", [FRR, peer(interface="eth0")]),
    ("BGPPeer 5: hold time below 3 s", "hold-time-range", [peer(hold_time="2s")]),
    ("BGPPeer 5: hold time is cut to seconds", "hold-time-range", [peer(hold_time="2999ms")]),
    ("BGPPeer 5: hold time 0", "", [peer(hold_time="0s")]),
    ("BGPPeer 5: keepalive above hold", "keepalive-above-hold", [peer(hold_time="9s", keepalive_time="10s")]),
    ("BGPPeer 5: keepalive equal to hold", "", [peer(hold_time="9s", keepalive_time="9s")]),
    ("BGPPeer 5: keepalive alone gives hold", "", [peer(keepalive_time="1s")]),
    ("BGPPeer 5: keepalive alone gives a hold below 3 s", "hold-time-range", [peer(keepalive_time="500ms")]),
    ("BGPPeer 5: connectTime 1..65535 whole seconds", "connect-time-range", [FRR, peer(connect_time="0s")]),
    ("BGPPeer 5: connectTime 1..65535 whole seconds", "connect-time-range", [FRR, peer(connect_time="65536s")]),
    ("BGPPeer 5: connectTime 1..65535 whole seconds", "connect-time-range", [FRR, peer(connect_time="1500ms")]),
    ("BGPPeer 6: peerAddress", "ip-invalid", [peer(address="198.51.100.300")]),
    ("BGPPeer 6: peerAddress", "ip-invalid", [peer(address="198.51.100.1/32")]),
    ("BGPPeer 6: routerID", "ip-invalid", [peer(router_id="one")]),
    ("BGPPeer 6: sourceAddress", "ip-invalid", [peer(source_address="eth0")]),
    ("BGPPeer 7: selector twice", "duplicate-entry", [peer(node_selectors=TWICE)]),
    ("BGPPeer 7: expression twice", "selector-invalid", [peer(node_selectors=EXPRESSION_TWICE)]),
    ("BGPPeer 7: value twice", "selector-invalid", [peer(node_selectors=VALUE_TWICE)]),
    ("BGPPeer 7: no key", "selector-invalid", [peer(node_selectors=NO_KEY)]),
    ("BGPPeer 7: no operator", "selector-invalid", [peer(node_selectors=NO_OPERATOR)]),
    ("BGPPeer 7: wrong operator", "selector-invalid", [peer(node_selectors=WRONG_OPERATOR)]),
    ("BGPPeer 7: In without values", "selector-invalid", [peer(node_selectors=NO_VALUE)]),
    ("BGPPeer 8: password and passwordSecret", "password-twice", [b.secret("s", "x"), peer(password="y", password_secret=SECRET)]),
    ("BGPPeer 9: secret missing", "secret-missing", [peer(password_secret=SECRET)]),
    ("BGPPeer 9: secret of another type", "secret-type", [b.secret("s", "x", "Opaque"), peer(password_secret=SECRET)]),
    ("BGPPeer 9: secret without password", "secret-without-password", [b.secret("s", None), peer(password_secret=SECRET)]),
    ("BGPPeer 10: unknown bfdProfile", "bfd-profile-missing", [FRR, peer(bfd_profile="fast")]),
    ("BGPPeer 11: already exists", "name-taken", [R, renamed(R, namespace="other")]),
    ("IPAddressPool 1: empty name", "name-missing", [renamed(P, name=""), L2]),
    ("IPAddressPool 1: no addresses", "pool-empty", [replaced(P, addresses=()), L2]),
    ("IPAddressPool 1: no prefix", "address-invalid", [b.pool("p", "192.0.2.0"), L2]),
    ("IPAddressPool 1: prefix too long", "address-invalid", [b.pool("p", "192.0.2.0/33"), L2]),
    ("IPAddressPool 1: range of three", "address-invalid", [b.pool("p", "192.0.2.1-192.0.2.2-192.0.2.3"), L2]),
    ("IPAddressPool 1: range with a prefix", "address-invalid", [b.pool("p", "192.0.2.0/30-192.0.2.9"), L2]),
    ("IPAddressPool 1: start after end", "address-invalid", [b.pool("p", "192.0.2.9-192.0.2.1"), L2]),
    ("IPAddressPool 2: namespace twice", "duplicate-entry", [b.pool("p", namespaces=["a", "a"]), L2]),
    ("IPAddressPool 2: namespace selector twice", "duplicate-entry", [b.pool("p", namespace_selectors=["a=b", "a=b"]), L2]),
    ("IPAddressPool 2: service selector twice", "duplicate-entry", [b.pool("p", service_selectors=["a=b", "a=b"]), L2]),
    ("IPAddressPool 2: service selector malformed", "selector-invalid", [b.pool("p", service_selectors=["a=-"]), L2]),
    ("IPAddressPool 3: equal prefixes of two pools", "pool-overlap", [P, b.pool("q", "192.0.2.0/28"), L2]),
    ("IPAddressPool 3: one contains the other", "pool-overlap", [P, b.pool("q", "192.0.0.0/16"), L2]),
    ("IPAddressPool 3: one is contained", "pool-overlap", [V6, b.pool("q", "2001:db8::10-2001:db8::1f"), L2]),
    ("IPAddressPool 3: within one pool", "pool-overlaps-itself", [b.pool("p", "192.0.2.0/28", "192.0.2.8/32"), L2]),
    ("IPAddressPool 4: duplicate name", "name-taken", [P, renamed(P, namespace="other"), L2]),
    ("Community: not a pair of 16 bits", "community-invalid", [b.community(x="65536:1")]),
    ("Community: not a pair of 16 bits", "community-invalid", [b.community(x="1:-1")]),
    ("Community: not large", "community-invalid", [b.community(x="larg:1:2:3")]),
    ("Community: not large", "community-invalid", [b.community(x="large:1:2:4294967296")]),
    ("Community: three parts", "community-invalid", [b.community(x="1:2:3")]),
    ("Community: one part", "community-invalid", [b.community(x="100")]),
    ("Community: alias twice in one object", "alias-taken", [replaced(b.community(), communities=(ALIAS, ALIAS))]),
    ("Community: alias twice in two objects", "alias-taken", [b.community("c", x="1:1"), b.community("d", x="1:1")]),
    ("Community: the largest numbers", "", [b.community(x="65535:65535", y="large:4294967295:4294967295:4294967295")]),
    ("L2Advertisement: pool twice", "duplicate-entry", [P, b.l2_advertisement(pools=["p", "p"])]),
    ("L2Advertisement: pool selector twice", "duplicate-entry", [renamed(P, labels={"a": "b"}), b.l2_advertisement(pool_selectors=["a=b", "a=b"])]),
    ("L2Advertisement: node selector twice", "duplicate-entry", [P, b.l2_advertisement(nodes=["a=b", "a=b"])]),
    ("L2Advertisement: service selector twice", "duplicate-entry", [P, b.l2_advertisement(services=["a=b", "a=b"])]),
    ("L2Advertisement: pool selector malformed", "selector-invalid", [P, replaced(L2, ip_address_pools=("p",), ip_address_pool_selectors=NO_VALUE)]),
    ("L2Advertisement: node selector malformed", "selector-invalid", [P, replaced(L2, node_selectors=NO_VALUE)]),
    ("L2Advertisement: service selector malformed", "selector-invalid", [P, replaced(L2, service_selectors=NO_VALUE)]),
    ("L2Advertisement: preference malformed", "selector-invalid", [P, b.l2_advertisement(prefer={"a=-": 1})]),
    ("L2Advertisement: weight 1..100", "preference-weight", [P, b.l2_advertisement(prefer={"a=b": 0})]),
    ("L2Advertisement: an interface twice", "", [P, b.l2_advertisement(interfaces=["eth0", "eth0"])]),
    ("BGPAdvertisement: pool twice", "duplicate-entry", [P, R, b.bgp_advertisement(pools=["p", "p"])]),
    ("BGPAdvertisement: community twice", "duplicate-entry", [P, R, b.bgp_advertisement(communities=["1:1", "1:1"])]),
    ("BGPAdvertisement: peer twice", "duplicate-entry", [P, R, b.bgp_advertisement(peers=["r", "r"])]),
    ("BGPAdvertisement: selector malformed", "selector-invalid", [P, R, replaced(BGP, node_selectors=VALUE_TWICE)]),
    ("BGPAdvertisement: serviceSelectors and aggregation", "aggregation-with-service-selectors", [P, R, b.bgp_advertisement(services=["a=b"], length=31)]),
    ("BGPAdvertisement: serviceSelectors and aggregation", "aggregation-with-service-selectors", [V6, R, b.bgp_advertisement(services=["a=b"], length6=127)]),
    ("BGPAdvertisement: aggregationLength above 32", "aggregation-out-of-range", [P, R, b.bgp_advertisement(length=33)]),
    ("BGPAdvertisement: aggregationLengthV6 above 128", "aggregation-out-of-range", [V6, R, b.bgp_advertisement(length6=129)]),
    ("BGPAdvertisement: community neither alias nor literal", "community-invalid", [P, R, b.bgp_advertisement(communities=["1:99999"])]),
    ("BGPAdvertisement: alias that does not exist", "alias-unknown", [P, R, b.bgp_advertisement(communities=["mine"])]),
    ("BGPAdvertisement: shorter than the prefix", "aggregation-too-short", [b.pool("p", "192.0.2.0/28"), R, b.bgp_advertisement(length=26)]),
    ("BGPAdvertisement: as long as the largest piece of a range", "", [b.pool("p", "192.0.2.2-192.0.2.254"), R, b.bgp_advertisement(length=26)]),
    ("BGPAdvertisement: shorter than the largest piece", "aggregation-too-short", [b.pool("p", "192.0.2.2-192.0.2.254"), R, b.bgp_advertisement(length=24)]),
    ("BGPAdvertisement: shorter than an IPv6 prefix", "aggregation-too-short", [V6, R, b.bgp_advertisement(length6=119)]),
    ("LOCAL_PREF: equal lengths, common peers and nodes", "local-pref-conflict", [P, R, BGP, b.bgp_advertisement("c", local_pref=1)]),
    ("LOCAL_PREF: with serviceSelectors it is asked per service", "", [P, R, BGP, b.bgp_advertisement("c", local_pref=1, services=["a=b"])]),
    ("LOCAL_PREF: other lengths of the only family", "", [P, R, BGP, b.bgp_advertisement("c", local_pref=1, length=30)]),
    ("LOCAL_PREF: both families, one other length", "local-pref-conflict", [DUAL, R, BGP, b.bgp_advertisement("c", local_pref=1, length=30)]),
    ("LOCAL_PREF: both families, two other lengths", "", [DUAL, R, BGP, b.bgp_advertisement("c", local_pref=1, length=30, length6=124)]),
    ("LOCAL_PREF: an empty list of peers meets all", "local-pref-conflict", [P, R, BGP, b.bgp_advertisement("c", local_pref=1, peers=["r"])]),
    ("LOCAL_PREF: disjoint peers", "", [P, R, peer("s", "198.51.100.2"), b.bgp_advertisement("bgp", peers=["s"]), b.bgp_advertisement("c", local_pref=1, peers=["r"])]),
    ("LOCAL_PREF: disjoint nodes", "", [P, R, b.node("m", "a=1"), b.node("n", "a=2"), b.bgp_advertisement("bgp", nodes=["a=1"]), b.bgp_advertisement("c", local_pref=1, nodes=["a=2"])]),
    ("both: IPv6 pool told to a peer with BFD echo", "echo-with-ipv6", [FRR, DUAL, BGP, ECHO, peer(bfd_profile="echo")]),
    ("both: IPv6 pool told to another peer", "", [FRR, DUAL, b.bgp_advertisement(peers=["s"]), ECHO, peer(bfd_profile="echo"), peer("s", "198.51.100.2")]),
    ("frr: different router IDs on one node", "router-id-conflict", [FRR, peer(router_id="192.0.2.1"), peer("s", "198.51.100.2", router_id="192.0.2.2")]),
    ("frr: router ID set and unset", "router-id-conflict", [FRR, peer(router_id="192.0.2.1"), peer("s", "198.51.100.2")]),
    ("frr: one neighbour twice, whatever the port", "peer-target-conflict", [FRR, R, peer("s", peer_port=1179)]),
    ("frr: one neighbour in two VRFs", "", [FRR, R, peer("s", vrf="red")]),
    ("frr: one interface twice", "peer-target-conflict", [FRR, peer(address="", interface="eth0"), peer("s", "", interface="eth0")]),
    ("frr: two ASNs in one VRF", "my-asn-conflict", [FRR, R, peer("s", "198.51.100.2", my_asn=64999)]),
    ("frr: two ASNs in two VRFs", "", [FRR, R, peer("s", "198.51.100.2", my_asn=64999, vrf="red")]),
    ("frr: disjoint nodes", "", [FRR, b.node("m", "a=1"), b.node("n", "a=2"), peer(nodes=["a=1"]), peer("s", nodes=["a=2"], my_asn=64999, router_id="192.0.2.1")]),
    # What MetalLB's native mode refuses: ours has it, or warns of what happens instead.
    ("native: keepaliveTime", "", [NATIVE, peer(hold_time="9s", keepalive_time="3s")]),
    ("native: connectTime", "", [NATIVE, peer(connect_time="3s")]),
    ("native: dualStackAddressFamily", "", [NATIVE, peer(dual_stack_address_family=True)]),
    ("native: IPv6 pool", "", [NATIVE, V6, BGP, R]),
    ("native: large community", "", [NATIVE, P, R, b.bgp_advertisement(communities=["large:1:2:3"])]),
    ("native: any BFDProfile", "", [NATIVE, SLOW]),
    ("native: bfdProfile", "", [NATIVE, SLOW, peer(bfd_profile="slow")]),
    ("native: vrf", "", [NATIVE, peer(vrf="red")]),
    ("native: enableGracefulRestart", "", [NATIVE, peer(enable_graceful_restart=True)]),
    ("native: disableMP", "", [NATIVE, peer(disable_mp=True)]),
    ("native: dynamicASN", "", [NATIVE, peer(peer_asn=0, dynamic_asn="external")]),
    ("native: interface", "", [NATIVE, peer(address="", interface="eth0")]),
    ("native: localASN", "", [NATIVE, peer(local_asn=64999)]),
    # What MetalLB accepts must stay acceptable, however odd.
    ("accepted: multicast in a pool", "", [b.pool("p", "224.0.0.0/24"), L2]),
    ("accepted: the limited broadcast in a pool", "", [b.pool("p", "255.255.255.255/32"), L2]),
    ("accepted: everything", "", [b.pool("p", "0.0.0.0/0", "::/0"), L2]),
    ("accepted: IPv4-mapped addresses", "", [b.pool("p", "::ffff:192.0.2.0/124"), L2]),
    ("accepted: a pool of buggy addresses alone", "", [b.pool("p", "192.0.2.0/32", avoid_buggy=True), L2]),
    ("accepted: a negative priority", "", [b.pool("p", priority=-1), L2]),
    ("accepted: sourceAddress of another family", "", [peer(source_address="2001:db8::1")]),
    ("accepted: one router twice in native mode", "", [NATIVE, R, peer("s")]),
    ("accepted: a reserved AS number", "", [peer(peer_asn=23456)]),
    ("accepted: a peer inside a pool", "", [P, L2, peer(address="192.0.2.1")]),
    ("accepted: unknown pools, peers and interfaces", "", [P, R, b.l2_advertisement(pools=["q"], interfaces=["x*"]), b.bgp_advertisement(peers=["q"])]),
    ("accepted: misspelt annotations", "", [annotated(P, "metallb.io/adress-pool", "x"), L2]),
]  # fmt: skip

NUMBERED = {"BGPPeer": 11, "IPAddressPool": 4}
"""Kind -> how many rules MetalLB has for it, where they are counted."""


@pytest.mark.parametrize(("told", "code", "items"), RULES, ids=[row[0] for row in RULES])
def test_a_rule_of_metallb(told: str, code: str, items: list[Any]) -> None:
    del told
    options, objects = split(items)
    found = {item.code for item in build_config(Snapshot.from_objects(objects, options)).errors}
    assert found == ({code} if code else set())


def test_every_rule_has_its_row() -> None:
    told = {row[0] for row in RULES}
    for kind, count in NUMBERED.items():
        for number in range(1, count + 1):
            assert any(text.startswith(f"{kind} {number}:") for text in told), f"{kind} {number}"
    fields = {text.split()[1] for text in told if text.startswith("BFDProfile: ")}
    without_bounds = {"echoMode", "passiveMode"}
    assert set(BFDProfile().spec.__struct_encode_fields__) - fields == without_bounds
