"""The lab's parts judged by one another: routes exchanged, cables cut, crashes cleaned up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clarion.lab.netns import NETNS_DIR, Lab, journal_entries, sweep
from clarion.lab.process import LabError, Process, end_pid, start_ticks, wait_until
from clarion.lab.routers import Neighbor, RouterConfig

from .conftest import TEST_PREFIX, Segment

pytestmark = pytest.mark.lab

SPEAKING = (("frr", 1, 64512), ("bird", 2, 64500), ("gobgp", 3, 64500), ("openbgpd", 4, 64500))


def full_mesh(kind: str, number: int, asn: int) -> RouterConfig:
    """Neighbours of one of the routers: eBGP with FRR, iBGP among the others."""
    others = [(n, a) for _, n, a in SPEAKING if n != number]
    neighbors = [
        Neighbor(
            address=address, remote_as=other_as, password="" if ":" in address else "lab-secret"
        )
        for other, other_as in others
        for address in (f"192.0.2.{other}", f"2001:db8:1::{other}")
    ]
    return RouterConfig(
        asn=asn,
        router_id=f"192.0.2.{number}",
        neighbors=tuple(neighbors),
        networks=(f"203.0.113.{number}/32", f"2001:db8:ff::{number}/128"),
    )


def test_four_routers_exchange_routes_over_both_families(segment: Segment) -> None:
    routers = {}
    for kind, number, asn in SPEAKING:
        routers[kind] = segment.router(kind, number, asn=asn)
    for kind, number, asn in SPEAKING:
        routers[kind].configure(full_mesh(kind, number, asn))
    for router in routers.values():
        router.wait_established()
    frr, bird, gobgp, openbgpd = (routers[kind] for kind, _, _ in SPEAKING)
    four = frr.wait_routes(4, {f"203.0.113.{n}/32" for n in (2, 3, 4)})
    (direct,) = [path for path in four["203.0.113.2/32"] if path.peer == "192.0.2.2"]
    assert direct.as_path == (64500,)
    assert direct.next_hop == "192.0.2.2"
    six = bird.wait_routes(6, {f"2001:db8:ff::{n}/128" for n in (1, 3, 4)})
    internal = [path for path in six["2001:db8:ff::3/128"] if path.peer == "2001:db8:1::3"]
    assert internal[0].local_pref == 100
    assert internal[0].as_path == ()
    gobgp.wait_routes(4, {f"203.0.113.{n}/32" for n in (1, 2, 4)})
    theirs = openbgpd.wait_routes(4, {f"203.0.113.{n}/32" for n in (1, 2, 3)})
    assert {(p.peer, p.as_path) for p in theirs["203.0.113.1/32"]} >= {("192.0.2.1", (64512,))}
    assert {p.peer for p in openbgpd.bgp_routes(4)["203.0.113.4/32"]} == {""}
    assert "192.0.2.2" in frr.kernel_routes(4)["203.0.113.2/32"]
    wait_until(lambda: bird.kernel_routes(4), 10, "bird's kernel routes")
    assert bird.kernel_routes(4)["203.0.113.1/32"] == ["192.0.2.1"]
    assert [router.neighbors()["192.0.2.1"].hold_time for router in (gobgp, openbgpd)] == [9, 9]
    for kind, number, asn in SPEAKING:
        routers[kind].configure(RouterConfig(asn=asn, router_id=f"192.0.2.{number}"))
    assert frr.learned(4) == {}


def test_a_silent_cut_keeps_the_carrier_and_a_cable_pull_does_not(segment: Segment) -> None:
    left, right = segment.host("left", 101), segment.host("right", 102)
    ping = ["ping", "-c", "1", "-W", "1", "192.0.2.102"]
    assert left.run(ping, check=False).returncode == 0
    port = segment.switch.port("right")
    port.unplug()
    assert left.run(ping, check=False).returncode != 0
    assert right.ip_json("link", "show", "dev", "eth0")[0]["operstate"] == "UP"
    port.plug()
    assert left.run(ping, check=False).returncode == 0
    port.carrier(up=False)
    assert right.ip_json("link", "show", "dev", "eth0")[0]["operstate"] != "UP"
    port.carrier(up=True)
    wait_until(lambda: left.run(ping, check=False).returncode == 0, 5, "ping after re-plugging")
    six = left.run(["ndisc6", "-1", "-m", "2001:db8:1::66", "eth0"])
    assert right.mac("eth0").upper() in six.stdout


def test_a_lab_that_crashed_is_removed_by_the_next_of_its_name(tmp_path: Path) -> None:
    name = f"{TEST_PREFIX}{os.getpid()}x"
    script = (
        "import os, sys; from pathlib import Path; from clarion.lab.netns import Lab\n"
        f"lab = Lab({name!r}, Path({str(tmp_path)!r}))\n"
        "host = lab.namespace('a'); host.popen(['sleep', '600'])\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    crashing = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert crashing.stdout is not None
    assert crashing.stdout.readline() == "ready\n"
    with pytest.raises(LabError, match="in use by another process"):
        Lab(name, tmp_path)
    crashing.send_signal(signal.SIGKILL)
    crashing.communicate()
    entries = list(journal_entries(tmp_path / name))
    sleeper = next(entry for entry in entries if entry["kind"] == "process")
    assert start_ticks(sleeper["pid"]) == sleeper["ticks"]
    assert (NETNS_DIR / f"clarion-{name}-a").exists()
    assert sweep(tmp_path) == [name]
    assert start_ticks(sleeper["pid"]) != sleeper["ticks"]
    assert not (NETNS_DIR / f"clarion-{name}-a").exists()
    assert not (tmp_path / name).exists()


def test_only_the_recorded_process_is_ended() -> None:
    process = Process(["sleep", "600"])
    end_pid(process.pid, process.ticks + 1)
    assert process.alive
    end_pid(process.pid, process.ticks)
    assert process.wait() == -signal.SIGTERM


def test_waiting_says_what_was_seen() -> None:
    with pytest.raises(LabError, match=r"three apples.*seen last: 2"):
        wait_until(lambda: 0, 0.05, "three apples", interval=0.01, seen=lambda: 2)
