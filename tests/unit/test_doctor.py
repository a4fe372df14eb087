"""`clarion doctor`: what each check says of which facts, and that the manual lists every check."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.decide.announcers import by_image
from clarion.decide.doctor import Check, Finding, Unread, checks_markdown, examine
from clarion.decide.doctor_cluster import API_CHECKS, CLUSTER_CHECKS, Reached
from clarion.decide.doctor_filters import obstacles
from clarion.decide.doctor_host import (
    HOST_CHECKS,
    HostFacts,
    Listener,
    NetInterface,
    RunningProgram,
)
from clarion.decide.doctor_wire import WIRE_CHECKS, Answer, WireFacts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
ETH0 = NetInterface(name="eth0")
IPVS = NetInterface(name="kube-ipvs0", arp="noArp", ndp="noLinkLocal")
HOST = HostFacts(
    name="node-a",
    interfaces=(ETH0,),
    capabilities=("NET_BIND_SERVICE", "NET_ADMIN", "NET_RAW"),
    vendor="Example",
)


def found(findings: Iterable[Finding], code: str) -> Finding:
    return next(item for item in findings if item.code == code)


def eth(**settings: Any) -> dict[str, Any]:
    return {"interfaces": (msgspec.structs.replace(ETH0, **settings),)}


def beside(other: NetInterface, **settings: Any) -> dict[str, Any]:
    return {"interfaces": (msgspec.structs.replace(ETH0, **settings), other)}


HOST_CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("interfaces", eth(arp="down", ndp="down"), "failed", "no interface can announce"),
    ("interfaces", {}, "ok", "ARP on eth0; NDP on eth0"),
    ("wireless", eth(wireless=True), "warning", "eth0: wireless"),
    ("wireless", eth(wireless=True, arp="excluded", ndp="excluded"), "ok", "no wireless"),
    ("bond-mode", eth(bond_mode="balance-alb"), "failed", "mode balance-alb"),
    ("bond-mode", eth(bond_mode="balance-rr"), "warning", "the switch must know"),
    ("bond-mode", eth(bond_mode="802.3ad"), "ok", "bonds: eth0"),
    ("mtu", eth(mtu=1200), "failed", "eth0: MTU below 1280"),
    ("mtu", beside(NetInterface(name="p0", master="eth0", mtu=1400)), "warning", "p0: another MTU"),
    ("mtu", beside(NetInterface(name="p0", master="eth0")), "ok", "MTU 1500"),
    ("strict-arp", beside(IPVS), "failed", "eth0 answer ARP"),
    ("strict-arp", beside(IPVS, arp_ignore=1, arp_announce=2), "ok", "keep the kernel silent"),
    ("strict-arp", {}, "ok", "holds no service addresses"),
    ("rp-filter", beside(NetInterface(name="eth1"), rp_filter=1), "warning", "2 ways in"),
    ("rp-filter", eth(rp_filter=1), "ok", "one way in"),
    ("ipv6", eth(disable_ipv6=True), "warning", "switched off"),
    ("ipv6", eth(ndp="noLinkLocal"), "warning", "eth0: ARP only"),
    ("ipv6", eth(accept_dad=2), "warning", "accept_dad 2"),
    ("ports", {"listeners": (Listener(7946, "tcp", "speaker"),)}, "warning", "speaker's"),
    ("ports", {"listeners": (Listener(7472, "tcp", "clarion"),)}, "ok", "clarion listens on 7472"),
    ("ports", {"listeners": Unread("no sockets")}, "skipped", "no sockets"),
    (
        "programs",
        {"programs": (RunningProgram("speaker", 7),)},
        "failed",
        "MetalLB speaker (pid 7)",
    ),
    ("programs", {"programs": (RunningProgram("bird", 7),)}, "warning", "BIRD (pid 7)"),
    ("capabilities", {"capabilities": ()}, "warning", "NET_RAW"),
    ("tcp-md5", {"md5": "Protocol not available"}, "warning", "Protocol not available"),
    ("packet-filter", {"filters": ("table netdev t, chain c: drops ARP",)}, "warning", "drops ARP"),
    ("packet-filter", {"filters": Unread("no nft")}, "skipped", "no nft"),
    ("hypervisor", {"vendor": "VMware, Inc."}, "warning", "forged transmits"),
    ("hypervisor", {"vendor": ""}, "skipped", "does not tell"),
]


@pytest.mark.parametrize(("code", "facts", "verdict", "says"), HOST_CASES)
def test_host(code: str, facts: dict[str, Any], verdict: str, says: str) -> None:
    item = found(examine(HOST_CHECKS, msgspec.structs.replace(HOST, **facts)), code)
    assert (item.verdict, says in item.says) == (verdict, True), item.says


def test_a_healthy_host_has_no_remark() -> None:
    assert {item.verdict for item in examine(HOST_CHECKS, HOST)} == {"ok"}


def test_what_could_not_be_read_is_never_ok() -> None:
    findings = list(examine(CLUSTER_CHECKS, Unread("no API")))
    assert {(item.verdict, item.says) for item in findings} == {("skipped", "no API")}


@pytest.mark.parametrize(
    ("reached", "verdict"),
    [
        (Reached(configured=False, error="no API is configured"), "skipped"),
        (Reached(error="connection refused"), "failed"),
        (Reached(version="v1.37.2"), "ok"),
    ],
)
def test_an_api_that_is_configured_must_answer(reached: Reached, verdict: str) -> None:
    assert [item.verdict for item in examine(API_CHECKS, reached)] == [verdict]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("registry.example.com/metallb/speaker:v0.15.3", "MetalLB speaker"),
        ("registry.example/mirror/metallb-speaker@sha256:00", "MetalLB speaker"),
        ("registry.example.com/metallb/controller:v0.16.1", "MetalLB controller"),
        ("registry.example.com/kube-vip/kube-vip:v1.2.3", "kube-vip"),
        ("rancher/klipper-lb:v0.4.9", "k3s servicelb"),
        ("registry.example/purelb/lbnodeagent:v0.16.6", "PureLB"),
        ("registry.example.com/metallb/frr-k8s:v0.0.25", "FRR"),
        ("registry.example.com/frrouting/frr:10.5.3", "FRR"),
        ("registry.example/clarion:1", None),
        ("registry.example/loudspeaker:1", None),
    ],
)
def test_announcers_are_known_by_their_images(image: str, name: str | None) -> None:
    row = by_image(["registry.example/pause:3", image])
    assert (row.name if row else None) == name


# The wire.

A, B, X = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0f"
VIP = "192.0.2.23"


def heard(*stations: str, owner: str = "node-a", **more: Any) -> Finding:
    answers = (Answer(address=VIP, interface="eth0", stations=stations),) if stations else ()
    facts = WireFacts(
        asked=(VIP,),
        answers=answers,
        owners={VIP: owner} if owner else {},
        stations={A: "node-a", B: "node-b"},
        **more,
    )
    return found(examine(WIRE_CHECKS, facts), "one-answer")


@pytest.mark.parametrize(
    ("finding", "verdict", "says"),
    [
        (heard(A), "ok", "one station each"),
        (heard(A, B), "failed", f"{VIP} on eth0: {A} (node-a) and {B} (node-b)"),
        (heard(A, X), "failed", f"{A} (node-a) and {X} (no known node)"),
        (heard(X), "failed", f"{X} (no known node); it should be node-a"),
        (heard(X, unheard=("node-c",)), "warning", "it may be of node-c"),
        (heard(B), "warning", f"{B} (node-b); it should be node-a"),
        (heard(X, owner=""), "failed", "it is told by BGP alone"),
        (heard(), "warning", f"nobody answers here for {VIP}"),
        (heard(here="node-a"), "ok", "one station each"),
        (heard(B, here="node-a"), "failed", f"node-a itself and {B} (node-b)"),
        (heard(owner=""), "ok", "one station each"),
    ],
)
def test_the_wire(finding: Finding, verdict: str, says: str) -> None:
    assert (finding.verdict, says in finding.says) == (verdict, True), finding.says


# nftables, as `nft -j` writes it.


def rule(family: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": family, "table": "t", "chain": "c", "handle": 1, "expr": parts}}


def chain(family: str, hook: str, policy: str) -> dict[str, Any]:
    item = {"family": family, "table": "t", "name": "c", "hook": hook, "policy": policy}
    return {"chain": item}


def match(protocol: str, field: str, right: Any, op: str = "==") -> dict[str, Any]:
    left = {"payload": {"protocol": protocol, "field": field}}
    return {"match": {"op": op, "left": left, "right": right}}


DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([rule("netdev", match("ether", "type", "arp"), DROP)], ["drops ARP"]),
        ([rule("bridge", match("arp", "operation", "request"), DROP)], ["drops ARP"]),
        (
            [rule("netdev", match("icmpv6", "type", {"set": ["nd-neighbor-solicit"]}), DROP)],
            ["drops neighbor discovery"],
        ),
        ([rule("netdev", DROP)], ["drops everything"]),
        ([rule("netdev", match("ip", "saddr", "192.0.2.9"), DROP)], []),
        # Below these the speaker has heard the frame already.
        ([rule("arp", DROP), rule("inet", match("icmpv6", "type", 135), DROP)], []),
        ([rule("inet", match("tcp", "dport", {"set": [22, 179]}), DROP)], ["drops TCP 179"]),
        ([rule("inet", match("tcp", "dport", 179, "!="), DROP)], []),
        ([chain("inet", "input", "drop")], ["policy drop, and no rule"]),
        (
            [
                chain("inet", "input", "drop"),
                rule("inet", match("tcp", "dport", {"set": [22, 179]}), ACCEPT),
            ],
            [],
        ),
        ([chain("inet", "forward", "drop")], []),
        ([chain("netdev", "ingress", "drop")], ["policy drop"]),
        ([{"metainfo": {"json_schema_version": 1}}], []),
    ],
)
def test_packet_filters(items: list[dict[str, Any]], says: list[str]) -> None:
    places = obstacles({"nftables": items})
    assert len(places) == len(says), places
    assert all(text in place for text, place in zip(says, places, strict=True)), places


# The manual.


def test_the_manual_lists_every_check() -> None:
    tables: list[tuple[str, Sequence[Check[Any]]]] = [
        ("This host", HOST_CHECKS),
        ("The cluster", (*API_CHECKS, *CLUSTER_CHECKS)),
        ("The wire", WIRE_CHECKS),
    ]
    page = PAGE.read_text()
    start, end = "<!-- made from the program: checks -->", "<!-- end of checks -->"
    wanted = f"{start}\n\n{checks_markdown(tables)}\n{end}"
    current = re.sub(f"{start}.*{end}", lambda _: wanted, page, flags=re.DOTALL)
    assert start in page
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(current)
        page = current
    assert page == current, "run: UPDATE_GOLDEN=1 make check"
