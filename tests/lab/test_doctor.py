"""`clarion doctor` on hosts that have what it looks for: strangers, filters, other routers."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from clarion.base.addr import parse_address
from clarion.decide.elect import rank
from clarion.lab.netns import Lab, Namespace, sweep
from clarion.lab.nodes import clarion
from clarion.lab.process import wait_until
from clarion.lab.topology import NODES, StandardLab

from .conftest import TEST_PREFIX
from .programs_bed import Bed, metallb, service

pytestmark = pytest.mark.lab

POOL = metallb("IPAddressPool", "doctor", addresses=["203.0.113.64/28", "2001:db8:9::/124"])
OWNER = rank(parse_address("203.0.113.64"), dict.fromkeys(NODES, 0))[0]
ANSWERED = metallb("L2Advertisement", "doctor", ipAddressPools=["doctor"])


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}d") as lab:
        made = StandardLab(lab)
        made.up()
        bed = Bed(made)
        bed.apply(POOL, ANSWERED, service("web"))
        wait_until(lambda: bed.leases() >= set(NODES), 20, "all speakers live")
        for vip in bed.vips("web"):
            bed.wait_owner(vip, OWNER)
        yield bed


def examine(bed: Bed, host: Namespace, *flags: str) -> dict[str, Mapping[str, Any]]:
    """What the doctor finds on a host."""
    argv = clarion("doctor", "-o", "json", *flags)
    done = host.run(argv, check=False, env=bed.lab.api.environment())
    found = {item["code"]: item for item in json.loads(done.stdout)["checks"]}
    verdicts = {item["verdict"] for item in found.values()}
    assert done.returncode == int("failed" in verdicts), done.stderr
    return found


def is_found(bed: Bed, host: Namespace, code: str, verdict: str, *says: str) -> None:
    item = examine(bed, host, "--host-only")[code]
    assert item["verdict"] == verdict, item
    assert all(text in item["says"] for text in says), item


def test_a_healthy_lab_and_every_host_of_it(bed: Bed) -> None:
    vips = bed.vips("web")
    for name in NODES:
        found = examine(bed, bed.lab.nodes[name].namespace)
        bad = {code: item["says"] for code, item in found.items() if item["verdict"] == "failed"}
        assert not bad
        wire = found["one-answer"]
        assert wire["verdict"] == "ok", wire
        # The owner does not hear itself; the others hear it and nobody else.
        answers = {
            each["address"]: each["stations"]
            for each in wire["facts"]["answers"]
            if each["interface"] == "eth0"
        }
        mac = bed.lab.nodes[OWNER].namespace.mac("eth0")
        assert answers == ({} if name == OWNER else {vip: [mac] for vip in vips}), wire
        assert found["clock"]["verdict"] == "ok"
        assert found["speakers"]["says"] == "alive on all 3 nodes"
        assert found["permissions"]["verdict"] == "ok"


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_stranger_that_answers_is_named_beside_the_owner(bed: Bed, family: int) -> None:
    vip = bed.vips("web")[family]
    other = next(name for name in NODES if name != OWNER)
    client, host = bed.lab.client, bed.lab.nodes[other].namespace
    client.ip("addr", "add", f"{vip}/{(32, 128)[family]}", "dev", "eth0", *("nodad",) * family)
    try:
        wire = examine(bed, host)["one-answer"]
        at_owner = examine(bed, bed.lab.nodes[OWNER].namespace)["one-answer"]
    finally:
        client.ip("addr", "del", f"{vip}/{(32, 128)[family]}", "dev", "eth0")
    mine, theirs = bed.lab.nodes[OWNER].namespace.mac("eth0"), client.mac("eth0")
    assert wire["verdict"] == at_owner["verdict"] == "failed"
    assert f"{mine} ({OWNER})" in wire["says"]
    assert f"{theirs} (no known node)" in wire["says"]
    assert f"{OWNER} itself and {theirs} (no known node)" in at_owner["says"]
    assert examine(bed, host)["one-answer"]["verdict"] == "ok"


def test_questions_change_no_neighbour_table(bed: Bed) -> None:
    host = bed.lab.nodes[NODES[0]].namespace
    client = bed.lab.client
    client.ip("neigh", "flush", "all")
    examine(bed, host)
    mac = host.mac("eth0")
    assert mac not in {entry.get("lladdr") for entry in client.ip_json("neigh", "show")}


def test_filters_that_silence_a_node_are_found(bed: Bed) -> None:
    host = bed.lab.nodes[OWNER].namespace
    rules = """
    table netdev doctor {
      chain early {
        type filter hook ingress device eth0 priority 0;
        ether type arp drop
      }
    }
    table inet doctor {
      chain input {
        type filter hook input priority 0;
        tcp dport { 22, 179 } reject
      }
    }
    """
    host.run(["nft", "-f", "-"], stdin=rules)
    try:
        says = ("table netdev doctor, chain early: drops ARP", "chain input: drops TCP 179")
        is_found(bed, host, "packet-filter", "warning", *says)
        # It is true: the speaker does not hear, although a packet socket sees much else.
        wait_until(lambda: not bed.lab.owners(bed.vips("web")[0]), 10, "the owner is silent")
    finally:
        host.run(["nft", "delete", "table", "netdev", "doctor"])
        host.run(["nft", "delete", "table", "inet", "doctor"])
    is_found(bed, host, "packet-filter", "ok")
    wait_until(lambda: bed.lab.owners(bed.vips("web")[0]) == [OWNER], 10, "it answers again")


def test_arp_filters_of_the_kernel_do_not_touch_the_speaker(bed: Bed) -> None:
    """Why drops in tables of the family arp are no finding."""
    vip = bed.vips("web")[0]
    host = bed.lab.nodes[OWNER].namespace
    host.run(["nft", "add table arp doctor"])
    try:
        for hook in ("input", "output"):
            chain = f"{{ type filter hook {hook} priority 0 ; policy drop ; }}"
            host.run(["nft", f"add chain arp doctor {hook} {chain}"])
        is_found(bed, host, "packet-filter", "ok")
        assert bed.lab.owners(vip) == [OWNER]
    finally:
        host.run(["nft", "delete", "table", "arp", "doctor"])


def test_ipvs_without_strict_arp(bed: Bed) -> None:
    host = bed.lab.nodes[NODES[0]].namespace
    host.ip("link", "add", "kube-ipvs0", "type", "bridge")
    try:
        is_found(bed, host, "strict-arp", "failed", "eth0")
        host.sysctl("net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
        is_found(bed, host, "strict-arp", "ok")
    finally:
        host.sysctl("net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0")
        host.ip("link", "del", "kube-ipvs0")


def test_other_speakers_of_bgp_and_ports_in_use(bed: Bed) -> None:
    is_found(bed, bed.lab.bird.namespace, "programs", "warning", "BIRD (pid ")
    is_found(bed, bed.lab.bird.namespace, "ports", "warning", "179/tcp is bird's")
    is_found(bed, bed.lab.frr.namespace, "programs", "warning", "FRR (pid ")
    is_found(bed, bed.lab.nodes[NODES[0]].namespace, "ports", "ok", "clarion listens on 7472")


def test_a_host_without_a_way_out(lab: Lab, bed: Bed) -> None:
    host = lab.namespace("doctor-alone")
    try:
        is_found(bed, host, "interfaces", "failed", "no interface can announce")
        is_found(bed, host, "ipv6", "warning", "IPv6")
    finally:
        lab.remove_namespace("doctor-alone")


def test_without_root_nothing_is_claimed(bed: Bed) -> None:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    host = bed.lab.nodes[NODES[0]].namespace
    done = host.run([*argv, *clarion("doctor", "--host-only", "-o", "json")], check=False)
    found = {item["code"]: item for item in json.loads(done.stdout)["checks"]}
    assert "NET_RAW" in found["capabilities"]["says"]
    assert found["capabilities"]["verdict"] == "warning"
    assert found["packet-filter"]["verdict"] == "skipped"
