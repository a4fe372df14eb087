"""What the lab's routers have in common: one configuration, one view of routes and neighbours."""

import ipaddress
import json
import re
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import msgspec

from clarion.lab.netns import Namespace
from clarion.lab.process import LabError, Process, wait_until

Family = Literal["ipv4", "ipv6"]
Version = int
"""4 or 6."""
ESTABLISHED = "Established"


class Neighbor(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP neighbour of a router; exactly one of address, listen_range and interface is given.

    Durations are whole seconds. `families` empty means those of the address's own version. The
    defaults make sessions come up in about a second.
    """

    address: str = ""
    listen_range: str = ""
    interface: str = ""
    remote_as: int | str
    families: tuple[Family, ...] = ()
    password: str = ""
    hold_time: int = 9
    keepalive: int = 3
    connect_retry: int = 1
    multihop: int = 0
    ttl_security: bool = False
    passive: bool = False
    local_address: str = ""
    port: int = 179
    bfd: bool = False
    graceful_restart: bool = False
    extended_next_hop: bool = False
    next_hop_self: bool = False

    def active_families(self) -> tuple[Family, ...]:
        """The address families to negotiate."""
        if self.families:
            return self.families
        if self.interface:
            return ("ipv4", "ipv6")
        return ("ipv6",) if ":" in self.address + self.listen_range else ("ipv4",)


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A router's configuration: `networks` are originated, `extra` lines go into the main block.

    With `ebgp_requires_policy` nothing is taken from external neighbours, for want of a policy that
    says what (RFC 8212): the default of FRR and OpenBGPD, which only these two know.
    """

    asn: int
    router_id: str
    neighbors: tuple[Neighbor, ...] = ()
    networks: tuple[str, ...] = ()
    max_paths: int = 8
    ebgp_requires_policy: bool = False
    extra: tuple[str, ...] = ()


class RoutePath(msgspec.Struct, frozen=True, kw_only=True):
    """One path of a route as a router holds it.

    Communities are text as in RFC 1997 and 8092 (`64500:1`, `64500:1:2`), well-known ones numbers
    too (`65535:65282`), in the router's order; extended ones are `rt:64500:1`, `soo:64500:1` and
    `lb:64500:125000` (link bandwidth in octets per second), others in the router's own words.
    `peer` is the neighbour's address, empty for the router's own.
    """

    next_hop: str
    peer: str
    as_path: tuple[int, ...] = ()
    local_pref: int | None = None
    med: int | None = None
    origin: str = ""
    communities: tuple[str, ...] = ()
    large_communities: tuple[str, ...] = ()
    extended_communities: tuple[str, ...] = ()
    best: bool = False
    stale: bool = False


Routes = dict[str, list[RoutePath]]


class NeighborState(msgspec.Struct, frozen=True, kw_only=True):
    """What a router says about one neighbour. `raw` is its own record."""

    address: str
    state: str
    remote_as: int = 0
    received: int = 0
    hold_time: int = 0
    last_error: str = ""
    raw: Any = None

    @property
    def established(self) -> bool:
        """Whether the session is up."""
        return self.state == ESTABLISHED


WELL_KNOWN = {
    "graceful-shutdown": "65535:0",
    "accept-own": "65535:1",
    "llgr-stale": "65535:6",
    "no-llgr": "65535:7",
    "blackhole": "65535:666",
    "no-export": "65535:65281",
    "no-advertise": "65535:65282",
    "local-AS": "65535:65283",
    "no-export-subconfed": "65535:65283",
    "no-peer": "65535:65284",
}


def community_text(value: str | int) -> str:
    """A community as `a:b`, from a number, a name that the router uses, or `a:b` itself."""
    if isinstance(value, int):
        return f"{value >> 16}:{value & 0xFFFF}"
    by_letters = {name.replace("-", "").lower(): text for name, text in WELL_KNOWN.items()}
    return by_letters.get(re.sub("[-_]", "", value).lower(), value)


def link_bandwidth_text(asn: int | str, octets: float) -> str:
    """The link bandwidth community of an AS, in whole octets per second."""
    return f"lb:{asn}:{octets:.0f}"


def canonical_prefix(text: str) -> str:
    """`a/len` in canonical text; a bare address gets its full length, `default` needs a version."""
    return str(ipaddress.ip_network(text, strict=False))


class Router(ABC):
    """A routing daemon in a namespace of its own."""

    kind: str
    kernel_protocol: str = ""

    def __init__(self, namespace: Namespace, config: RouterConfig) -> None:
        self.namespace = namespace
        self.config = config
        self.daemons: list[Process] = []
        self.folder: Path = namespace.lab.run_dir / f"{self.kind}-{namespace.name}"
        self.folder.mkdir(exist_ok=True)

    @property
    def name(self) -> str:
        """Host name of the router."""
        return self.namespace.name

    @abstractmethod
    def start(self) -> None:
        """Write the configuration, start the daemons and wait until they answer."""

    def configure(self, config: RouterConfig) -> None:
        """Replace the configuration: by a restart, unless a make of router can do it running."""
        self.stop()
        self.config = config
        self.start()

    def decoded(self, command: str, text: str) -> Any:
        """What a command printed, which should be JSON.

        Raises:
            LabError: it is not.
        """
        try:
            return json.loads(text)
        except ValueError as error:
            raise LabError(f"{self.name}: {command}: {text[:500]}") from error

    @abstractmethod
    def raw_routes(self, version: Version) -> Any:
        """The router's own record of its BGP table: decoded JSON, or text where it has none."""

    @abstractmethod
    def bgp_routes(self, version: Version) -> Routes:
        """BGP table by canonical prefix, every path of it."""

    @abstractmethod
    def neighbors(self) -> dict[str, NeighborState]:
        """Neighbours by address (or interface)."""

    def learned(self, version: Version) -> Routes:
        """`bgp_routes` without what the router itself originates."""
        table = {
            prefix: [path for path in paths if path.peer]
            for prefix, paths in self.bgp_routes(version).items()
        }
        return {prefix: paths for prefix, paths in table.items() if paths}

    def kernel_routes(self, version: Version) -> dict[str, list[str]]:
        """Routes that the daemon put into the kernel: prefix to next hops, sorted."""
        return {prefix: sorted(hops) for prefix, hops in self.kernel_weights(version).items()}

    def kernel_weights(self, version: Version) -> dict[str, dict[str, int]]:
        """The same with the weight of each next hop."""
        if not self.kernel_protocol:
            raise LabError(f"{self.kind} puts no routes into the kernel")
        words = ["route", "show", "proto", self.kernel_protocol]
        found: dict[str, dict[str, int]] = {}
        for entry in self.namespace.ip_json(f"-{version}", *words):
            prefix = "0.0.0.0/0" if version == 4 else "::/0"
            if entry["dst"] != "default":
                prefix = canonical_prefix(entry["dst"])
            for hop in entry.get("nexthops", [entry]):
                gateway = hop.get("gateway") or hop.get("via", {}).get("host", "")
                found.setdefault(prefix, {})[gateway] = hop.get("weight", 1)
        return found

    def wait_established(self, *addresses: str, timeout: float = 20.0) -> None:
        """Wait until the sessions with these neighbours (or all configured ones) are up."""

        def up() -> bool:
            states = self.neighbors()
            wanted = addresses or tuple(states)
            return bool(wanted) and all(a in states and states[a].established for a in wanted)

        def seen() -> object:
            return {a: (s.state, s.last_error) for a, s in self.neighbors().items()}

        who = ", ".join(addresses) or "all neighbours"
        wait_until(up, timeout, f"{self.name} ({self.kind}): {who} established", seen=seen)

    def wait_routes(
        self, version: Version, prefixes: set[str], *, timeout: float = 15.0, within: str = ""
    ) -> Routes:
        """Wait until exactly these prefixes (only looking inside `within`) are learned."""
        wanted = {canonical_prefix(prefix) for prefix in prefixes}
        scope = ipaddress.ip_network(within) if within else None

        def table() -> Routes:
            routes = self.learned(version)
            if scope is None:
                return routes
            return {p: r for p, r in routes.items() if _inside(p, scope)}

        def matches() -> tuple[Routes] | None:
            routes = table()
            return (routes,) if set(routes) == wanted else None

        what = f"{self.name} ({self.kind}): exactly {sorted(wanted)}"
        return wait_until(matches, timeout, what, seen=table)[0]

    def stop(self) -> None:
        """End the daemons with SIGTERM (sessions are closed properly)."""
        for daemon in reversed(self.daemons):
            daemon.stop()
        self.daemons.clear()

    def kill(self) -> None:
        """End the daemons and their children with SIGKILL."""
        for daemon in self.daemons:
            daemon.kill_group()
        self.daemons.clear()

    def restart(self, *, hard: bool = False) -> None:
        """Stop (or, when `hard`, kill) and start again with the same configuration."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the daemons: TCP stays up, nothing is answered (SIGSTOP)."""
        for daemon in self.daemons:
            daemon.signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for daemon in self.daemons:
            daemon.signal_group(signal.SIGCONT)


def _inside(prefix: str, scope: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    network = ipaddress.ip_network(prefix)
    if isinstance(network, ipaddress.IPv4Network):
        return isinstance(scope, ipaddress.IPv4Network) and network.subnet_of(scope)
    return isinstance(scope, ipaddress.IPv6Network) and network.subnet_of(scope)
