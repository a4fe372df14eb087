"""Layer 2 judged by arping, ndisc6, tcpdump, tshark and the neighbour tables of Linux clients."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from clarion.base.addr import parse_address
from clarion.base.limits import SPEAKER_LEASE_DURATION_SECONDS
from clarion.edge.pulse import Lapsed, Restarted
from clarion.lab.netns import Lab, cable
from clarion.lab.process import start_ticks, wait_until
from clarion.proto.pulse.messages import Configure, Notice, NoticeCode

from .l2_bed import OLD, OLD6, Bed

pytestmark = pytest.mark.lab

VIP, VIP6 = "203.0.113.10", "2001:db8::10"
BOTH: Mapping[str, Sequence[str] | None] = {VIP: None, VIP6: None}


@pytest.fixture(scope="module")
def shared(lab: Lab) -> Iterator[Bed]:
    bed = Bed(lab)
    yield bed
    for name in ("l2node", "l2client", "l2old", "l2sw0", "l2sw1"):
        lab.remove_namespace(name)


@pytest.fixture
def bed(shared: Bed) -> Bed:
    """The shared bed with a living program, default settings and an empty table."""
    if not shared.speaker.process.alive:
        shared.restart()
    shared.speaker.tell(configure=Configure(), table={})
    return shared


@pytest.fixture
def eth2(bed: Bed) -> Iterator[Bed]:
    """A cable between eth2 of node and client, plugged by `plug(bed)`, unplugged at the end."""
    yield bed
    bed.client.run(["ip", "link", "del", "eth2"], check=False)


def plug(bed: Bed, name: str = "eth2") -> str:
    """Plug the cable and give the node's new MAC."""
    cable(bed.node, name, bed.client, "eth2")
    bed.client.add_address("eth2", "198.51.100.254/24")
    return bed.node.mac(name)


def test_answers_on_every_interface_with_its_own_mac(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    for interface in ("eth0", "eth1"):
        mac = bed.node.mac(interface)
        bed.answers(VIP, mac, interface)
        bed.answers(VIP6, mac, interface)
    assert bed.arping(VIP, "eth0", "-0") == {bed.node.mac("eth0")}, "a probe from 0.0.0.0"
    assert bed.arping("203.0.113.11") == set()
    assert bed.ndisc("2001:db8::11") == set()


def test_answers_on_selected_interfaces_only(bed: Bed) -> None:
    state = bed.speaker.table({VIP: ["eth1"], VIP6: ["eth1", "eth7"]})
    assert not [r for r in state.reports if isinstance(r, Notice) and r.address in (VIP, VIP6)]
    for address in BOTH:
        bed.answers(address, bed.node.mac("eth1"), "eth1")
        bed.silent(address, "eth0")
    bed.speaker.table({VIP: ["eth0"], VIP6: ["eth0"]})
    for address in BOTH:
        bed.answers(address, bed.node.mac("eth0"), "eth0")
        bed.silent(address, "eth1")
    assert "ff02::1:ff00:10" in bed.groups("eth0")
    assert "ff02::1:ff00:10" not in bed.groups("eth1")


def test_withdrawn_is_silent_and_leaves_its_group(bed: Bed) -> None:
    bed.speaker.table({**BOTH, "2001:db8::1:10": None})
    bed.answers(VIP, bed.node.mac("eth0"))
    bed.speaker.table({"2001:db8::1:10": None})
    bed.silent(VIP)
    bed.silent(VIP6)
    assert "ff02::1:ff01:10" in bed.groups("eth0")
    assert "ff02::1:ff00:10" not in bed.groups("eth0")


def test_excluded_interfaces_stay_silent(bed: Bed) -> None:
    state = bed.speaker.tell(configure=Configure(excluded=("^eth1$",)), table=BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    bed.silent(VIP, "eth1")
    wait_until(
        lambda: bed.speaker.tell().interfaces["eth1"] == ("excluded", "excluded"), 5, "said so"
    )
    bed.speaker.tell(configure=Configure(excluded=("(",)))
    wait_until(
        lambda: any(
            isinstance(r, Notice) and r.code is NoticeCode.BAD_SETTINGS
            for r in bed.speaker.tell().reports
        ),
        5,
        "a bad pattern is told",
    )
    bed.speaker.tell(configure=Configure())
    bed.answers(VIP, bed.node.mac("eth1"), "eth1")
    assert state.pulse == bed.speaker.pulse


def test_an_unknown_interface_is_told_once(bed: Bed) -> None:
    def told() -> list[str]:
        reports = bed.speaker.tell().reports
        return [r.message for r in reports if isinstance(r, Notice) and "eth77" in r.message]

    bed.speaker.table({VIP: ["eth77"], "203.0.113.12": ["eth77"]})
    (message,) = wait_until(told, 5, "a notice")
    assert message == (
        "203.0.113.10 and 1 more: none of eth77 can announce IPv4 addresses on this node"
    )
    bed.silent(VIP)
    assert len(told()) == 1


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_unicast_probes_of_a_neighbour_are_answered(bed: Bed, address: str) -> None:
    bed.speaker.table(BOTH)
    mac = bed.node.mac("eth0")
    seen = bed.client.popen(
        ["tcpdump", "-lnei", "eth0", f"ether src {bed.client.mac('eth0')} and (arp or icmp6)"],
        log="unicast.log",
    )
    wait_until(lambda: "listening" in seen.tail(), 10, "tcpdump")
    entry = ["neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "probe"]
    bed.client.ip(*entry)
    wait_until(lambda: bed.neighbour(address) == (mac, "REACHABLE"), 10, "the probe is answered")
    wait_until(lambda: f"> {mac}" in seen.tail(), 10, "it was a unicast")
    seen.stop()
    assert seen.log is not None
    seen.log.unlink()


def test_another_hosts_duplicate_detection_finds_the_address_taken(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    bed.client.sysctl("net.ipv6.conf.eth0.accept_dad=1", "net.ipv6.conf.eth0.dad_transmits=1")
    try:
        bed.client.ip("address", "add", f"{VIP6}/64", "dev", "eth0")
        wait_until(
            lambda: (
                "dadfailed" in bed.client.run(["ip", "-6", "addr", "show", "dev", "eth0"]).stdout
            ),
            10,
            "detection",
        )
    finally:
        bed.client.sysctl("net.ipv6.conf.eth0.accept_dad=0")
        bed.client.remove_address("eth0", f"{VIP6}/64")


@pytest.mark.parametrize("address", [OLD, OLD6])
def test_take_over_of_a_neighbour_entry_younger_than_a_second(bed: Bed, address: str) -> None:
    """Linux ignores some gratuitous frames while an entry is young (its locktime is one second)."""
    old, new = bed.old.mac("eth0"), bed.node.mac("eth0")

    def taken_over_while_young() -> bool:
        bed.speaker.table({})
        bed.client.ip("neigh", "flush", "dev", "eth0")
        since = time.monotonic()
        bed.client.run(["ping", "-c", "1", "-W", "1", address])
        assert bed.neighbour(address) == (old, "REACHABLE")
        bed.speaker.table({address: None})
        moved = bed.neighbour(address)[0]
        if time.monotonic() - since >= 1:
            return False  # this machine was too slow to show anything; once more
        assert moved == new
        return True

    wait_until(taken_over_while_young, 30, "a look within the first second")


def test_frames_as_tshark_reads_them(bed: Bed) -> None:
    capture = bed.lab.run_dir / "burst.pcap"
    dump = bed.client.popen(
        ["tcpdump", "-Uni", "eth0", "-Zroot", "-w", str(capture), "arp or icmp6"], log="pcap.log"
    )
    wait_until(lambda: "listening" in dump.tail(), 10, "tcpdump")
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    bed.answers(VIP6, bed.node.mac("eth0"))
    mac = bed.node.mac("eth0")
    fields = (
        "arp.opcode",
        "arp.dst.hw_mac",
        "arp.isgratuitous",
        "icmpv6.checksum.status",
        "icmpv6.nd.na.flag.s",
        "icmpv6.nd.na.flag.o",
        "icmpv6.opt.linkaddr",
        "ipv6.dst",
        "eth.dst",
    )

    def rows() -> set[tuple[str, ...]]:
        words = ["tshark", "-r", str(capture), "-Y", f"eth.src == {mac}", "-T", "fields"]
        for field in fields:
            words += ["-e", field]
        text = bed.client.run(words, check=False).stdout
        yes = str.maketrans({"T": "1", "F": "0"})
        return {
            tuple(w.translate(yes) if w in ("True", "False") else w for w in line.split("\t"))
            for line in text.splitlines()
        }

    client, everyone = bed.client.mac("eth0"), "ff:ff:ff:ff:ff:ff"
    expected = {
        ("1", "00:00:00:00:00:00", everyone, "arp request, gratuitous"),
        ("2", mac, everyone, "arp reply, gratuitous"),
        ("2", client, client, "arp answer"),
    }

    def arp_seen() -> bool:
        seen = {(r[0], r[1], r[8]) for r in rows() if r[0]}
        return {e[:3] for e in expected} <= seen

    wait_until(arp_seen, 10, "ARP frames", seen=rows)

    def ndp_seen() -> bool:
        seen = {(r[3], r[4][:1], r[5][:1], r[6], r[8]) for r in rows() if r[4]}
        good = {
            ("1", "0", "1", mac, "33:33:00:00:00:01"),
            ("1", "1", "1", mac, client),
        }
        normal = {tuple({"T": "1", "F": "0"}.get(w, w) for w in row) for row in seen}
        return good <= normal

    wait_until(ndp_seen, 10, "advertisements", seen=rows)
    dump.stop()


def test_a_new_interface_announces_at_once(eth2: Bed) -> None:
    eth2.speaker.table(BOTH)
    mac = plug(eth2)
    for address in BOTH:
        eth2.answers(address, mac, "eth2")
    assert "ff02::1:ff00:10" in eth2.groups("eth2")


def test_an_interface_that_goes_and_returns(eth2: Bed) -> None:
    eth2.speaker.table(BOTH)
    first = plug(eth2)
    eth2.answers(VIP, first, "eth2")
    eth2.node.ip("link", "del", "eth2")
    second = plug(eth2)
    assert second != first
    for address in BOTH:
        eth2.answers(address, second, "eth2")
    # Away to another namespace and back: the same name and the same index.
    index = eth2.node.ip_json("link", "show", "dev", "eth2")[0]["ifindex"]
    eth2.node.ip("link", "set", "eth2", "netns", eth2.old.full_name)
    eth2.old.ip("link", "set", "eth2", "netns", eth2.node.full_name)
    eth2.node.ip("link", "set", "eth2", "up")
    assert eth2.node.ip_json("link", "show", "dev", "eth2")[0]["ifindex"] == index
    for address in BOTH:
        eth2.answers(address, second, "eth2")
    assert eth2.speaker.process.alive


def test_a_renamed_interface_is_known_by_its_new_name(eth2: Bed) -> None:
    eth2.speaker.table({VIP: ["uplink"], VIP6: ["uplink"]})
    mac = plug(eth2)
    eth2.silent(VIP, "eth2")
    eth2.node.ip("link", "set", "eth2", "down")
    eth2.node.ip("link", "set", "eth2", "name", "uplink")
    eth2.node.ip("link", "set", "uplink", "up")
    for address in BOTH:
        eth2.answers(address, mac, "eth2")


def test_members_of_a_bridge_and_interfaces_without_arp_stay_silent(eth2: Bed) -> None:
    eth2.speaker.table(BOTH)
    mac = plug(eth2)
    eth2.answers(VIP, mac, "eth2")
    eth2.node.ip("link", "set", "eth2", "arp", "off")
    eth2.silent(VIP, "eth2")
    assert eth2.speaker.tell().interfaces["eth2"] == ("noArp", "noArp")
    eth2.node.ip("link", "set", "eth2", "arp", "on")
    eth2.answers(VIP, mac, "eth2")
    eth2.node.ip("link", "add", "br9", "type", "bridge")
    eth2.node.ip("link", "set", "br9", "address", mac, "up")
    eth2.node.ip("link", "set", "eth2", "master", "br9")
    wait_until(
        lambda: eth2.speaker.tell().interfaces["eth2"] == ("member", "member"), 5, "a member"
    )
    eth2.answers(VIP, mac, "eth2")  # by the bridge, once and not twice
    eth2.node.ip("link", "del", "br9")
    eth2.answers(VIP6, mac, "eth2")


def test_a_new_mac_is_announced_to_who_holds_the_old_one(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    before = bed.node.mac("eth0")
    after = "02:00:5e:00:53:01"
    bed.answers(VIP, before)
    for address in BOTH:
        bed.client.ip(
            "neigh", "replace", address, "lladdr", before, "dev", "eth0", "nud", "reachable"
        )
    bed.node.ip("link", "set", "eth0", "address", after)
    wait_until(
        lambda: {bed.neighbour(address)[0] for address in BOTH} == {after}, 5, "both entries moved"
    )
    for address in BOTH:
        bed.answers(address, after)
    bed.node.ip("link", "set", "eth0", "address", before)
    bed.answers(VIP, before)


def test_a_cable_plugged_in_again_is_a_take_over(bed: Bed) -> None:
    bed.speaker.table({VIP: ["eth0"]})
    bed.answers(VIP, bed.node.mac("eth0"))
    port = bed.first.port("l2node")
    port.carrier(up=False)
    wait_until(
        lambda: bed.node.ip_json("link", "show", "dev", "eth0")[0]["operstate"] != "UP",
        5,
        "no carrier",
    )
    bed.client.ip(
        *("neigh", "replace", VIP, "lladdr", bed.old.mac("eth0"), "dev", "eth0"),
        *("nud", "reachable"),
    )
    port.carrier(up=True)
    wait_until(lambda: bed.neighbour(VIP)[0] == bed.node.mac("eth0"), 5, "announced again")


def test_another_station_that_claims_the_address_is_told(bed: Bed) -> None:
    bed.speaker.table({OLD: ["eth0"]})
    bed.old.run(["arping", "-U", "-c", "1", "-i", "eth0", OLD], check=False)

    def told() -> list[str]:
        reports = bed.speaker.tell().reports
        return [r.message for r in reports if isinstance(r, Notice) and r.code == "conflict"]

    (message,) = wait_until(told, 5, "a conflict")
    assert bed.old.mac("eth0") in message
    assert bed.speaker.tell().counts[OLD].conflicts >= 1


def test_switches_that_snoop_learn_where_the_address_is_wanted(bed: Bed) -> None:
    switch = bed.first.namespace
    snoop = ["link", "set", "br0", "type", "bridge", "mcast_snooping"]
    switch.ip(*snoop, "1")
    try:
        bed.speaker.table({VIP6: ["eth0"]})

        def members() -> set[str]:
            shown = switch.run(["bridge", "-j", "mdb", "show"]).stdout
            rows = [row for table in json.loads(shown) for row in table["mdb"]]
            return {row["port"] for row in rows if row["grp"] == "ff02::1:ff00:10"}

        wait_until(lambda: members() == {"p-l2node"}, 5, "an MLD report", seen=members)
    finally:
        switch.ip(*snoop, "0")


def test_where_groups_run_short_every_group_is_heard(eth2: Bed) -> None:
    mac = plug(eth2)
    wait_until(lambda: eth2.speaker.tell().interfaces.get("eth2") == (None, None), 5, "sockets")
    eth2.node.sysctl("net.core.optmem_max=1")
    try:
        eth2.speaker.table({VIP6: ["eth2"]})
        eth2.answers(VIP6, mac, "eth2")
        (link,) = eth2.node.ip_json("-d", "link", "show", "dev", "eth2")
        assert link["allmulti"] == 1
        reports = eth2.speaker.tell().reports
        told = [r for r in reports if isinstance(r, Notice) and r.code is NoticeCode.GROUP_FAILED]
        assert [notice.interface for notice in told] == ["eth2"]
    finally:
        eth2.node.sysctl("net.core.optmem_max=131072")


def test_counts(bed: Bed) -> None:
    bed.speaker.table({VIP: ["eth0"]})
    for _ in range(3):
        bed.arping(VIP)

    def counted() -> bool:
        counts = bed.speaker.tell().counts.get(VIP)
        return counts is not None and (counts.requests, counts.responses) == (3, 3)

    wait_until(counted, 5, "three requests", seen=lambda: bed.speaker.tell().counts)
    assert bed.speaker.tell().counts[VIP].gratuitous >= 2


def test_a_killed_pulse_is_replaced_with_its_table(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    first = bed.speaker.pulse
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(first, number)
    bed.answers(VIP, bed.node.mac("eth0"))
    assert bed.speaker.pulse == first, "only the speaker ends it"
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: bed.speaker.pulse != first, 10, "a new process")
    for address in BOTH:
        bed.answers(address, bed.node.mac("eth0"))
    restarts = [r for r in bed.speaker.tell().reports if isinstance(r, Restarted)]
    assert restarts[-1] == Restarted("killed by signal 9", running=True)


def test_a_hung_pulse_is_replaced(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    first = bed.speaker.pulse
    os.kill(first, signal.SIGSTOP)
    bed.answers(VIP, bed.node.mac("eth0"))
    assert bed.speaker.pulse != first
    assert start_ticks(first) is None
    restarts = [r for r in bed.speaker.tell().reports if isinstance(r, Restarted)]
    assert "heartbeats" in restarts[-1].cause


def last_answer(bed: Bed, pulse: int, address: str) -> float:
    """Ask until the process is gone; monotonic time of the last answer."""
    last = 0.0
    while start_ticks(pulse) is not None:
        asked = time.monotonic()
        if bed.arping(address):
            last = asked
        assert asked - last < 10 or not last, "it lives and is silent"
    assert bed.arping(address) == set()
    return last


def test_a_stuck_speaker_is_silent_before_its_lease_ends(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    pulse = bed.speaker.pulse
    stuck = time.monotonic()
    bed.speaker.process.signal(signal.SIGSTOP)
    try:
        last = stuck
        while bed.arping(VIP):
            last = time.monotonic()
        assert start_ticks(pulse) is not None
    finally:
        bed.speaker.process.signal(signal.SIGCONT)
    assert 0 < last - stuck < SPEAKER_LEASE_DURATION_SECONDS
    wait_until(
        lambda: any(isinstance(r, Lapsed) for r in bed.speaker.tell().reports), 5, "a lapse is told"
    )
    assert bed.speaker.tell().table == []
    bed.silent(VIP)
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))


def test_a_killed_speaker_is_answered_for_until_the_limit(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    pulse = bed.speaker.pulse
    killed = time.monotonic()
    bed.speaker.process.kill()
    last = last_answer(bed, pulse, VIP)
    assert 0 < last - killed < SPEAKER_LEASE_DURATION_SECONDS
    bed.silent(VIP6)


def test_a_clean_stop_ends_the_answers_at_once(bed: Bed) -> None:
    bed.speaker.table(BOTH)
    bed.answers(VIP, bed.node.mac("eth0"))
    pulse = bed.speaker.pulse
    bed.speaker.tell(stop=True)
    assert start_ticks(pulse) is None
    assert bed.arping(VIP) == set()
    assert bed.speaker.process.wait() == 0


def test_a_thousand_addresses(bed: Bed) -> None:
    """Half of each IP version; every one is resolved by the client's kernel."""
    bed.client.add_route("198.51.100.0/24", dev="eth0")
    four = [f"{net}.{n}" for net in ("203.0.113", "198.51.100") for n in range(1, 251)]
    four.remove(OLD)
    six = [f"2001:db8::5:{n:x}" for n in range(500)]
    # A kernel with little memory for socket options: one socket cannot join all groups.
    bed.node.sysctl("net.core.optmem_max=20480")
    bed.speaker.table(dict.fromkeys([*four, *six]))
    poke = (
        "import socket, sys\n"
        "for word in sys.stdin.read().split():\n"
        "    family = socket.AF_INET6 if ':' in word else socket.AF_INET\n"
        "    socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (word, 9))\n"
    )
    mac = bed.node.mac("eth0")
    wanted = {*four, *six}

    def missing() -> set[str]:
        entries = bed.client.ip_json("neigh", "show", "dev", "eth0")
        known = {e["dst"] for e in entries if e.get("lladdr") == mac}
        return wanted - known

    def resolved() -> bool:
        words = [sys.executable, "-W", "ignore", "-c", poke]
        bed.client.run(words, stdin=" ".join(missing()))
        return not missing()

    wait_until(resolved, 20, "a thousand neighbours", seen=lambda: sorted(missing())[:5])
    groups = {str(parse_address(f"ff02::1:ff05:{n:x}")) for n in range(500)}
    assert groups <= set(bed.groups("eth0"))
    status = Path(f"/proc/{bed.speaker.pulse}/status").read_text()
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    assert int(kib) < 40 * 1024
    bed.speaker.table({})
    wait_until(lambda: not groups.intersection(bed.groups("eth0")), 5, "all groups are left")
    bed.client.ip("neigh", "flush", "dev", "eth0")
