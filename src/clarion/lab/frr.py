"""FRR in a namespace: a pathspace per router, daemons in the foreground with ids that we hold."""

import os
import pwd
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clarion.lab.netns import Namespace
from clarion.lab.process import LabError, Process, run, wait_until
from clarion.lab.routerbase import (
    Neighbor,
    NeighborState,
    RoutePath,
    Router,
    RouterConfig,
    Routes,
    Version,
    canonical_prefix,
    community_text,
)

ETC = Path("/etc/frr")
RUN = Path("/run/frr")
LIBRARIES = (Path("/usr/lib/frr"), Path("/usr/libexec/frr"))
# Words such as RT:64512:5 and LB:64513:375000; what stands in brackets behind is for people.
EXTENDED = re.compile(r"([A-Za-z]+):(\S+)")
ROOTLESS = "CLARION_LAB_ROOTLESS"


def _library() -> Path:
    for folder in LIBRARIES:
        if (folder / "bgpd").exists():
            return folder
    raise LabError("FRR's bgpd is not installed", remedy="apt-get install frr")


def _frr_user() -> bool:
    """Whether FRR's own user can be used: it exists, and we are the machine's real root."""
    try:
        pwd.getpwnam("frr")
    except KeyError:
        return False
    return os.geteuid() == 0 and not os.environ.get(ROOTLESS)


def render(config: RouterConfig) -> str:
    """Configuration of bgpd."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: RouterConfig) -> Iterator[str]:
    yield "frr defaults datacenter"
    yield f"router bgp {config.asn}"
    yield f" bgp router-id {config.router_id}"
    yield f"{' ' if config.ebgp_requires_policy else ' no '}bgp ebgp-requires-policy"
    yield " no bgp network import-check"
    yield " no bgp default ipv4-unicast"
    yield " bgp bestpath as-path multipath-relax"
    if any(neighbor.graceful_restart for neighbor in config.neighbors):
        yield " bgp graceful-restart"
    named = [(_reference(index, each), each) for index, each in enumerate(config.neighbors)]
    for reference, neighbor in named:
        yield from (f" {line}" for line in _neighbor_lines(reference, neighbor))
    yield from (f" {line}" for line in config.extra)
    for family in ("ipv4", "ipv6"):
        yield f" address-family {family} unicast"
        yield f"  maximum-paths {config.max_paths}"
        yield f"  maximum-paths ibgp {config.max_paths}"
        for network in config.networks:
            if (":" in network) == (family == "ipv6"):
                yield f"  network {network}"
        for reference, neighbor in named:
            if family in neighbor.active_families():
                yield f"  neighbor {reference} activate"
                if neighbor.next_hop_self:
                    yield f"  neighbor {reference} next-hop-self"
        yield " exit-address-family"
    yield "exit"


def _reference(index: int, neighbor: Neighbor) -> str:
    return neighbor.address or neighbor.interface or f"RANGE{index}"


def _neighbor_lines(reference: str, neighbor: Neighbor) -> Iterator[str]:
    if neighbor.interface:
        yield f"neighbor {reference} interface remote-as {neighbor.remote_as}"
    elif neighbor.listen_range:
        yield f"neighbor {reference} peer-group"
        yield f"neighbor {reference} remote-as {neighbor.remote_as}"
    else:
        yield f"neighbor {reference} remote-as {neighbor.remote_as}"
    yield f"neighbor {reference} timers {neighbor.keepalive} {neighbor.hold_time}"
    yield f"neighbor {reference} timers connect {neighbor.connect_retry}"
    yield f"neighbor {reference} advertisement-interval 0"
    if neighbor.password:
        yield f"neighbor {reference} password {neighbor.password}"
    if neighbor.port != 179:
        yield f"neighbor {reference} port {neighbor.port}"
    if neighbor.multihop:
        yield f"neighbor {reference} ebgp-multihop {neighbor.multihop}"
    if neighbor.ttl_security:
        yield f"neighbor {reference} ttl-security hops 1"
    if neighbor.passive:
        yield f"neighbor {reference} passive"
    if neighbor.local_address:
        yield f"neighbor {reference} update-source {neighbor.local_address}"
    if neighbor.bfd:
        yield f"neighbor {reference} bfd 3 100 100"
    if neighbor.extended_next_hop:
        yield f"neighbor {reference} capability extended-nexthop"
    if neighbor.listen_range:
        yield f"bgp listen range {neighbor.listen_range} peer-group {reference}"


class Frr(Router):
    """FRR: zebra and bgpd, and bfdd when a neighbour asks for BFD.

    zebra of 8.4 insists on a user of its own, so in a user namespace bgpd runs without it: sessions
    and table are there, routes in the kernel are not.
    """

    kind = "frr"
    kernel_protocol = "bgp"

    def __init__(self, namespace: Namespace, config: RouterConfig) -> None:
        super().__init__(namespace, config)
        self.pathspace = namespace.full_name
        self.own_user = _frr_user()
        if not self.own_user:
            self.kernel_protocol = ""
        self._running: dict[str, Process] = {}

    def _own(self, path: Path) -> None:
        if self.own_user:
            shutil.chown(path, "frr", "frr")

    def _write(self, name: str, text: str) -> Path:
        path = ETC / self.pathspace / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o640)
        self._own(path)
        return path

    def _interface_lines(self, config: RouterConfig) -> str:
        """Router advertisements on the interfaces of unnumbered neighbours."""
        lines = [f"hostname {self.name}"]
        for neighbor in config.neighbors:
            if neighbor.interface:
                lines.append(f"interface {neighbor.interface}")
                lines.append(" ipv6 nd ra-interval 1")
                lines.append(" no ipv6 nd suppress-ra")
                lines.append("exit")
        return "\n".join(lines) + "\n"

    def _start_daemon(self, daemon: str, text: str) -> None:
        path = self._write(f"{daemon}.conf", text)
        argv = [str(_library() / daemon), "-N", self.pathspace, "-f", str(path), "-P", "0"]
        if not self.own_user:
            argv += ["-Z", "-S", "-u", "root", "-g", "root"]
        log = f"{self.name}-{daemon}.log"
        process = self.namespace.popen([*argv, "--log", "stdout"], log=log)
        self._running[daemon] = process
        self.daemons.append(process)

    def start(self) -> None:
        """Start zebra, bfdd where needed, and bgpd; without FRR's own user bgpd alone."""
        self._make_folders()
        self._running.clear()
        if self.own_user:
            self._start_daemon("zebra", self._interface_lines(self.config))
            self._wait_daemon("zebra")
            self._start_bfd()
        self._start_daemon("bgpd", render(self.config))
        self._wait_daemon("bgpd")
        wait_until(self._configured, 10, f"{self.name}: bgpd has read its file", interval=0.02)

    def _make_folders(self) -> None:
        """FRR's folders of this pathspace, the second one without what a killed daemon left."""
        for parent in (ETC, RUN):
            folder = parent / self.pathspace
            if not folder.exists():
                self._own(self.namespace.lab.folder(folder))
        for leftover in (RUN / self.pathspace).glob("*"):
            leftover.unlink(missing_ok=True)
        self._write("vtysh.conf", "service integrated-vtysh-config\n")

    def _start_bfd(self) -> None:
        wanted = any(neighbor.bfd for neighbor in self.config.neighbors)
        running = self._running.get("bfdd")
        if wanted and (running is None or not running.alive):
            self._start_daemon("bfdd", f"hostname {self.name}\n")
            self._wait_daemon("bfdd")

    def _wait_daemon(self, daemon: str) -> None:
        socket = RUN / self.pathspace / f"{daemon}.vty"

        def there() -> bool:
            self._running[daemon].require(f"{self.name}: {daemon}")
            return socket.exists()

        wait_until(there, 10, f"{self.name}: {daemon} answers", interval=0.02)

    def _configured(self) -> bool:
        self._running["bgpd"].require(f"{self.name}: bgpd")
        record = self.query("show bgp summary json", check=False)
        return isinstance(record, dict) and "not found" not in str(record)

    def vtysh(self, *commands: str, check: bool = True) -> str:
        """Run vtysh commands, one after the other, and give what they print."""
        words = [word for command in commands for word in ("-c", command)]
        done = run(["vtysh", "-N", self.pathspace, *words], check=False)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: vtysh {commands}: {done.stdout}{done.stderr}")
        return done.stdout

    def query(self, command: str, *, check: bool = True) -> Any:
        """A `show ... json` command, decoded."""
        text = self.vtysh(command, check=check)
        try:
            return self.decoded(command, text)
        except LabError:
            if check:
                raise
            return None

    def configure(self, config: RouterConfig) -> None:
        """Drop the running BGP instance and load another one, daemons untouched."""
        asn, self.config = self.config.asn, config
        self.vtysh("configure terminal", f"no router bgp {asn}")
        self._start_bfd()
        text = self._interface_lines(config) + render(config)
        self.load(self._write("next.conf", text))
        self._write("bgpd.conf", render(config))

    def load(self, path: Path) -> None:
        """Add the lines of a file to what runs; `configure` and `start` know nothing of them."""
        done = run(["vtysh", "-N", self.pathspace, "-f", str(path)], check=False)
        if done.returncode != 0:
            raise LabError(f"{self.name}: vtysh -f: {done.stdout}{done.stderr}")

    def raw_routes(self, version: Version) -> Any:
        """`show bgp ipvN unicast json`."""
        return self.query(f"show bgp ipv{version} unicast json")

    def bgp_routes(self, version: Version) -> Routes:
        """Every path with all its attributes."""
        record = self.query(f"show bgp ipv{version} unicast json detail", check=False) or {}
        return {
            canonical_prefix(prefix): [_path(each) for each in entries if "peer" in each]
            for prefix, entries in record.get("routes", {}).items()
        }

    def neighbors(self) -> dict[str, NeighborState]:
        """`show bgp neighbors json`."""
        record = self.query("show bgp neighbors json", check=False) or {}
        return {
            address: _neighbor_state(address, entry)
            for address, entry in record.items()
            if isinstance(entry, dict) and "bgpState" in entry
        }

    def bfd_peers(self) -> list[dict[str, Any]]:
        """`show bfd peers json`."""
        peers: list[dict[str, Any]] = self.query("show bfd peers json")
        return peers


def _path(entry: dict[str, Any]) -> RoutePath:
    hops = entry.get("nexthops", [])
    main = next((hop for hop in hops if hop.get("scope") != "link-local"), hops[0] if hops else {})
    peer = entry["peer"].get("peerId", "")
    extended = entry.get("extendedCommunity", {}).get("string", "")
    return RoutePath(
        next_hop=main.get("ip", ""),
        peer="" if peer in ("0.0.0.0", "::") else peer,  # noqa: S104 - FRR's word for "myself"
        as_path=tuple(
            asn for part in entry.get("aspath", {}).get("segments", []) for asn in part["list"]
        ),
        local_pref=entry.get("locPrf"),
        med=entry.get("metric"),
        origin=entry.get("origin", ""),
        communities=tuple(
            community_text(text) for text in entry.get("community", {}).get("list", [])
        ),
        large_communities=tuple(entry.get("largeCommunity", {}).get("list", [])),
        extended_communities=tuple(
            f"{name.lower()}:{value}" for name, value in EXTENDED.findall(extended)
        ),
        best=bool(entry.get("bestpath", {}).get("overall")),
        stale=bool(entry.get("stale")),
    )


def _neighbor_state(address: str, entry: dict[str, Any]) -> NeighborState:
    families = entry.get("addressFamilyInfo", {})
    received = sum(each.get("acceptedPrefixCounter", 0) for each in families.values())
    reasons = (entry.get("lastResetDueTo", ""), entry.get("lastNotificationReason", ""))
    return NeighborState(
        address=address,
        state=entry["bgpState"],
        remote_as=entry.get("remoteAs", 0),
        received=received,
        hold_time=entry.get("bgpTimerHoldTimeMsecs", 0) // 1000,
        last_error=" / ".join(filter(None, reasons)),
        raw=entry,
    )
