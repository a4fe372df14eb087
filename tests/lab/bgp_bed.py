"""The bed of the BGP tests: our speaker at 192.0.2.20, and four makes of router that judge it.

The speaker is a program in a namespace of its own (`bgp_speaker_main.py`). The routers are shared
by all tests of a session (fixtures `routers` and `configured`); most tests speak with all at once.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from clarion.base.addr import Prefix, parse_address, parse_prefix
from clarion.lab.netns import Namespace
from clarion.lab.process import wait_until
from clarion.lab.routerbase import Family
from clarion.lab.routers import Neighbor, Router, RouterConfig
from clarion.proto.bgp.config import PeerConfig, SessionStatus, State
from clarion.proto.bgp.routes import Route

from .bgp_speaker_main import Command, Report
from .told import Told

NUMBERS = {"frr": 1, "bird": 2, "gobgp": 3, "openbgpd": 4}
KINDS = tuple(NUMBERS)
US = 20
US4, US6 = f"192.0.2.{US}", f"2001:db8:1::{US:x}"
OUR_ASN, THEIR_ASN = 64513, 64512
SERVICE4, SERVICE6 = "203.0.113.7/32", "2001:db8:ff::7/128"
PROGRAM = Path(__file__).with_name("bgp_speaker_main.py")
BOTH: tuple[Family, ...] = ("ipv4", "ipv6")

Configured = Callable[[str, RouterConfig], Router]
Routers = Callable[..., dict[str, Router]]

PATIENCE = 100
"""Seconds. OpenBGPD lets nobody in for half a minute after an error, as a lost opening is one."""


class Speaker(Told[Report]):
    """The program under test."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, PROGRAM, Report, f"bgp-{host.name}")

    def peers(self, *peers: PeerConfig) -> Report:
        return self.ask(Command(peers={peer.name: peer for peer in peers}))

    def routes(
        self, names: Sequence[str], routes: list[Route], marks: Iterable[int] | None = None
    ) -> Report:
        """Set the routes for these peers; with `marks`, once for each of these communities."""
        each = None if marks is None else list(marks)
        return self.ask(Command(routes=dict.fromkeys(names, routes), marks=each))

    @property
    def report(self) -> Report:
        return self.ask(Command())

    @property
    def status(self) -> dict[str, SessionStatus]:
        return self.report.status

    def reasons(self, name: str) -> list[str]:
        """Why a session changed its state, each time since the start."""
        return [reason for peer, _state, reason in self.report.changes if peer == name]

    def wait(self, what: str, probe: Callable[[dict[str, SessionStatus]], bool]) -> None:
        wait_until(
            lambda: probe(self.status),
            PATIENCE,
            what,
            seen=lambda: (self.report, self.process.tail()),
        )

    def wait_reason(self, reason: str, *names: str) -> None:
        """Until each of these sessions has changed its state for this reason."""
        what = f"{', '.join(names)}: {reason}"
        self.wait(what, lambda _: all(reason in self.reasons(name) for name in names))

    def wait_established(self, *names: str) -> None:
        """Until these sessions, or all, are up."""

        def up(status: dict[str, SessionStatus]) -> bool:
            return all(status[n].state is State.ESTABLISHED for n in names or status)

        self.wait(f"{', '.join(names) or 'all'}: established", up)

    def memory(self) -> int:
        """Resident memory of the program in KiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0])

    def stop(self) -> None:
        """End it; it must have run until now, without an exception or a warning."""
        assert self.process.alive or self.process.returncode == 0, self.process.tail()
        self.process.stop()
        assert self.process.tail() == ""


def neighbor(version: int = 4, asn: int = OUR_ASN, **fields: Any) -> Neighbor:
    """Us, as a router knows us."""
    address = US4 if version == 4 else US6
    return Neighbor(address=address, remote_as=asn, families=BOTH, **fields)


def router_config(kind: str, *neighbors: Neighbor, asn: int = THEIR_ASN) -> RouterConfig:
    return RouterConfig(asn=asn, router_id=f"192.0.2.{NUMBERS[kind]}", neighbors=neighbors)


def router_address(kind: str, version: int = 4) -> str:
    number = NUMBERS[kind]
    return f"192.0.2.{number}" if version == 4 else f"2001:db8:1::{number:x}"


def peer_name(kind: str, version: int = 4) -> str:
    return kind if version == 4 else f"{kind}6"


ALL = [(kind, version) for kind in KINDS for version in (4, 6)]
NAMES = [peer_name(kind, version) for kind, version in ALL]


def peer(kind: str, version: int = 4, **fields: Any) -> PeerConfig:
    """A router, as we know it."""
    values: dict[str, Any] = {
        "name": peer_name(kind, version),
        "local_asn": OUR_ASN,
        "peer_asn": THEIR_ASN,
        "peer_address": parse_address(router_address(kind, version)),
        "hold_time": 9.0,
        "connect_time": 1.0,
    }
    return PeerConfig(**(values | fields))


def service(**fields: Any) -> list[Route]:
    """The service's routes, one per family."""
    return [Route(parse_prefix(text), **fields) for text in (SERVICE4, SERVICE6)]


def wait_service(router: Router) -> None:
    """Until the router has exactly the service's routes."""
    router.wait_routes(4, {SERVICE4})
    router.wait_routes(6, {SERVICE6})


def many(count: int, version: int = 4) -> list[Route]:
    """That many host routes."""
    base = parse_address("198.18.0.0" if version == 4 else "2001:db8:fe::").value
    length = 32 if version == 4 else 128
    return [Route(Prefix(version, base + n, length)) for n in range(count)]


def wait_received(router: Router, count: int, timeout: float = 30) -> None:
    """Wait until the router has this many prefixes of ours."""
    what = f"{count} prefixes at {router.name}"
    wait_until(lambda: router.neighbors()[US4].received == count, timeout, what)


def established_connections(host: Namespace) -> list[str]:
    """Connections of BGP that the kernel holds established."""
    said = host.run(["ss", "-Htn", "state", "established", "( dport = 179 or sport = 179 )"])
    return said.stdout.splitlines()
