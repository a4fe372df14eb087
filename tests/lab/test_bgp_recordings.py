"""Sessions with real routers are recorded, and go the same way again without them.

`UPDATE_GOLDEN=1` keeps the recordings in `tests/data/bgp-recordings`, where `tests/unit` replays
them, whole and damaged.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.lab.bird import Bird
from clarion.lab.frr import Frr
from clarion.lab.openbgpd import Openbgpd
from clarion.lab.process import Process, wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig
from clarion.proto.bgp.config import Endpoints
from clarion.testing.bgprecord import Head, decode, replay

from .bgp_bed import (
    BOTH,
    KINDS,
    NUMBERS,
    OUR_ASN,
    THEIR_ASN,
    Configured,
    peer,
    router_address,
    service,
    wait_service,
)
from .conftest import Segment

pytestmark = pytest.mark.lab

FOLDER = Path(__file__).resolve().parents[1] / "data" / "bgp-recordings"
PROGRAM = Path(__file__).with_name("bgp_record_main.py")
NUMBER = 22
LOCAL4, LOCAL6 = f"192.0.2.{NUMBER}", f"2001:db8:1::{NUMBER:x}"
NETWORKS = ("198.51.100.0/24", "2001:db8:64::/48")
MAKES = {"frr": "FRR 8.4", "bird": "BIRD 2.0", "gobgp": "GoBGP 3.10", "openbgpd": "OpenBGPD 7.7"}


def head(kind: str) -> Head:
    """What the session with a router begins with."""
    local = parse_address(LOCAL4)
    remote = parse_address(router_address(kind))
    ends = Endpoints(
        local=local,
        remote=remote,
        next_hop_ipv4=local,
        next_hop_ipv6=parse_address(LOCAL6),
        router_id=local,
    )
    config = peer(kind, graceful_restart=20.0)
    return Head(router=MAKES[kind], config=config, endpoints=ends, routes=service())


def config(kind: str, *neighbors: Neighbor) -> RouterConfig:
    networks = NETWORKS if neighbors else ()  # OpenBGPD shows no table when nobody is there
    return RouterConfig(
        asn=THEIR_ASN,
        router_id=f"192.0.2.{NUMBERS[kind]}",
        neighbors=neighbors,
        networks=networks,
    )


def ask_again(router: Router) -> None:
    """Have the router ask for all routes again, if it can."""
    if isinstance(router, Frr):
        router.vtysh(f"clear bgp ipv4 unicast {LOCAL4} soft in")
    elif isinstance(router, Bird):
        router.birdc("reload in n0")
    elif isinstance(router, Openbgpd):
        router.bgpctl("neighbor", LOCAL4, "refresh")


def record(segment: Segment, configured: Configured, folder: Path, kind: str) -> bytes:
    """A session that comes up, is asked for its routes again, lost, comes back and is stopped."""
    us = Neighbor(address=LOCAL4, remote_as=OUR_ASN, families=BOTH)
    router = configured(kind, config(kind, us))
    plan, target = folder / f"{kind}.plan", folder / f"{kind}.jsonl"
    plan.write_bytes(msgspec.json.encode(head(kind)))
    program: Process = segment.host("recorder", NUMBER).popen(
        [sys.executable, str(PROGRAM), str(plan), str(target)], log=f"record-{kind}.log"
    )
    state = target.with_suffix(".state")

    def seen() -> list[str]:
        assert program.alive, program.tail()
        return state.read_text().split() if state.exists() else []

    def established(count: int) -> bool:
        """The session is up for so many times now, and the router's own routes are here."""
        match seen():
            case ["Established", times, prefixes]:
                return int(times) == count and int(prefixes) >= len(NETWORKS)
        return False

    try:
        wait_service(router)
        wait_until(lambda: established(1), 30, f"{kind}: all routes are here", seen=seen)
        ask_again(router)
        router.configure(config(kind))
        wait_until(lambda: seen()[:1] != ["Established"], 30, f"{kind}: lost", seen=seen)
        router.configure(config(kind, us))
        wait_until(lambda: established(2), 30, f"{kind}: back", seen=seen)
        wait_service(router)
    finally:
        program.stop()
    assert program.tail() == ""
    return target.read_bytes()


def test_recorded_sessions_go_the_same_way_again(
    segment: Segment, configured: Configured, tmp_path: Path
) -> None:
    segment.host("recorder", NUMBER)
    for kind in KINDS:
        segment.router(kind, NUMBERS[kind])
    with ThreadPoolExecutor(len(KINDS)) as pool:
        texts = list(pool.map(lambda kind: record(segment, configured, tmp_path, kind), KINDS))
    for kind, text in zip(KINDS, texts, strict=True):
        recording = decode(text)
        assert replay(recording) == recording
        asked = [text for step in recording.steps for text in step.asks]
        assert sum(text.startswith("Established") for text in asked) == 2, kind
        assert recording.end.status.established_count == 2
        # FRR 8.4 forgets a neighbour without a word.
        farewell = recording.end.status.last_notification_received
        assert farewell.startswith("" if kind == "frr" else "Cease/"), kind
        if os.environ.get("UPDATE_GOLDEN"):
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / f"{kind}.jsonl").write_bytes(text)
