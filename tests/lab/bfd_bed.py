"""The bed of the BFD tests: the native back end and its pulse process at 192.0.2.21."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from clarion.lab.frr import Frr
from clarion.lab.netns import Namespace, cable
from clarion.lab.process import wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig
from clarion.proto.bfd.config import BfdStatus

from .bfd_speaker_main import OUR_ASN, THEIR_ASN, Command, Row, State
from .bgp_bed import NUMBERS
from .conftest import Segment
from .told import Told

US = 21
US4, US6 = f"192.0.2.{US}", f"2001:db8:1::{US:x}"
FRR4, FRR6, BIRD4, BIRD6 = "192.0.2.1", "2001:db8:1::1", "192.0.2.2", "2001:db8:1::2"
ALL = {
    name: Row(address=address, graceful=True)
    for name, address in (("frr4", FRR4), ("frr6", FRR6), ("bird4", BIRD4), ("bird6", BIRD6))
}
CONFIGS = {
    kind: RouterConfig(
        asn=THEIR_ASN,
        router_id=f"192.0.2.{NUMBERS[kind]}",
        neighbors=tuple(
            Neighbor(
                address=address,
                remote_as=OUR_ASN,
                bfd=True,
                hold_time=90,
                keepalive=30,
                graceful_restart=True,
            )
            for address in (US4, US6)
        ),
    )
    for kind in ("frr", "bird")
}
PROGRAM = Path(__file__).with_name("bfd_speaker_main.py")


class Speaker(Told[State]):
    """The program under test."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, PROGRAM, State, "bfd-1")
        self.starts = 1

    def start(self) -> None:
        """Again, after it ended."""
        self.starts += 1
        self.launch(f"bfd-{self.starts}")

    def peers(self, rows: dict[str, Row], *, restarted: bool = False) -> State:
        return self.ask(Command(peers=rows, restarted=restarted))

    @property
    def state(self) -> State:
        return self.ask(Command())

    def path_to(self, name: str) -> BfdStatus:
        return self.state.paths[name]

    def established(self, name: str) -> bool:
        return self.state.sessions[name][0] == "Established"

    def wait_paths(self, *names: str, timeout: float = 20) -> None:
        """Until BFD with these peers is up and fast."""

        def fast() -> bool:
            paths = self.state.paths
            return all(n in paths and paths[n].up and paths[n].receive_interval < 1 for n in names)

        wait_until(fast, timeout, f"BFD up: {names}", seen=lambda: self.state.paths, interval=0.02)

    def wait_packets(self, *names: str) -> None:
        """Until so many more have come that silence would long have been noticed."""
        before = self.state.paths

        def flowing() -> bool:
            paths = self.state.paths
            return all(
                paths[n].counts.control_received > before[n].counts.control_received + 10
                for n in names
            )

        wait_until(flowing, 20, f"packets: {names}", seen=lambda: self.state.paths)

    def wait_sessions(self, *names: str) -> None:
        wait_until(
            lambda: all(self.established(name) for name in names),
            20,
            f"BGP established: {names}",
            seen=lambda: self.state.sessions,
            interval=0.02,
        )

    def stop(self, *, keep: bool = False) -> None:
        if self.process.alive:
            self.ask(Command(stop=True, keep=keep))
            self.process.wait()


class Settling:
    """One speaker for many tests, with BFD and BGP of all of ALL up before each.

    What is up already stays so, which costs no time: to come up takes four seconds.
    """

    def __init__(self, host: Namespace, segment: Segment) -> None:
        self._host, self._segment = host, segment
        self._speaker: Speaker | None = None

    def router(self, kind: str) -> Router:
        router = self._segment.router(kind, NUMBERS[kind])
        if router.config != CONFIGS[kind]:
            router.configure(CONFIGS[kind])
        return router

    def settle(self) -> Speaker:
        for kind in CONFIGS:
            self.router(kind)
        if self._speaker is None or not self._speaker.process.alive:
            self._speaker = Speaker(self._host)
        self._speaker.peers(ALL)
        self._speaker.wait_paths(*ALL)
        self._speaker.wait_sessions(*ALL)
        return self._speaker

    def stop(self) -> None:
        """End the speaker; the next test has to wait for everything."""
        if self._speaker is not None:
            self._speaker.stop()
            self._speaker = None

    def close(self) -> None:
        self.stop()
        for kind in CONFIGS:
            router = self.router(kind)
            router.configure(msgspec.structs.replace(router.config, neighbors=()))


@contextlib.contextmanager
def beyond(host: Namespace, far: Namespace) -> Iterator[None]:
    """A router between `host` (198.51.100.1, 2001:db8:a::1) and `far` (198.51.100.6, ...b::6)."""
    lab = host.lab
    middle = lab.namespace("bfdmiddle", forwarding=True)
    try:
        cable(host, "near", middle, "left")
        cable(middle, "right", far, "beyond")
        for namespace, interface, addresses in (
            (host, "near", ("198.51.100.1/30", "2001:db8:a::1/64")),
            (middle, "left", ("198.51.100.2/30", "2001:db8:a::2/64")),
            (middle, "right", ("198.51.100.5/30", "2001:db8:b::5/64")),
            (far, "beyond", ("198.51.100.6/30", "2001:db8:b::6/64")),
        ):
            for address in addresses:
                namespace.add_address(interface, address)
        host.add_route("198.51.100.4/30", via="198.51.100.2")
        host.add_route("2001:db8:b::/64", via="2001:db8:a::2")
        far.add_route("198.51.100.0/30", via="198.51.100.5")
        far.add_route("2001:db8:a::/64", via="2001:db8:b::5")
        yield
    finally:
        host.ip("link", "del", "near")
        far.ip("link", "del", "beyond")
        lab.remove_namespace("bfdmiddle")


def frr_path(router: Router, address: str) -> dict[str, Any]:
    """What FRR says of its BFD session with an address; empty if it has none."""
    assert isinstance(router, Frr)
    return next((row for row in router.bfd_peers() if row["peer"] == address), {})


def frr_downs(router: Router, address: str) -> int:
    """How often FRR lost its BFD session with an address."""
    assert isinstance(router, Frr)
    rows = router.query("show bfd peers counters json")
    return next(int(row["session-down"]) for row in rows if row["peer"] == address)
