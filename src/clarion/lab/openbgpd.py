"""OpenBGPD in a namespace. Its Linux edition keeps routes to itself: nothing reaches the kernel."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clarion.lab.process import LabError, run, wait_until
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

# Home of the daemon's own user, where its children lock themselves in. It is empty, so all
# instances share it; configuration and control socket of each are in the router's folder.
JAIL = Path("/run/openbgpd")
OWN_ROUTES = "LOCAL"


def render(config: RouterConfig) -> str:
    """bgpd.conf, but for the control socket."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: RouterConfig) -> Iterator[str]:
    yield f"AS {config.asn}"
    yield f"router-id {config.router_id}"
    yield "fib-update no"
    yield from (f"network {network}" for network in config.networks)
    yield from config.extra
    for neighbor in config.neighbors:
        yield f"neighbor {neighbor.address or neighbor.listen_range} {{"
        yield from (f"  {line}" for line in _neighbor_lines(neighbor))
        yield "}"
    # Without a rule everything is denied, also to and from internal neighbours.
    whom = "ibgp" if config.ebgp_requires_policy else "any"
    yield f"allow from {whom}"
    yield f"allow to {whom}"


def _neighbor_lines(neighbor: Neighbor) -> Iterator[str]:
    if neighbor.interface or neighbor.bfd or neighbor.extended_next_hop:
        raise LabError("OpenBGPD 7.7 has no unnumbered sessions, no BFD and no extended next hop")
    yield f"remote-as {neighbor.remote_as}"
    yield f"holdtime {neighbor.hold_time}"
    families = neighbor.active_families()
    for family, name in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
        yield f"announce {name} {'unicast' if family in families else 'none'}"
    if neighbor.password:
        yield f'tcp md5sig password "{neighbor.password}"'
    if neighbor.port != 179:
        yield f"port {neighbor.port}"
    if neighbor.multihop:
        yield f"multihop {neighbor.multihop}"
    if neighbor.ttl_security:
        yield "ttl-security yes"
    if neighbor.passive:
        yield "passive"
    if neighbor.local_address:
        yield f"local-address {neighbor.local_address}"
    if neighbor.next_hop_self:
        yield "set nexthop self"


class Openbgpd(Router):
    """OpenBGPD: a parent and three children that share the work, one process group.

    It takes a keepalive of a third of the hold time, and decides itself when to connect again: 30 s
    after an error at first, later less often. Who connects to it is served before. It is configured
    by a restart, as a reload keeps old keys and waits.
    """

    kind = "openbgpd"

    @property
    def control(self) -> Path:
        """The control socket of this instance."""
        return self.folder / "bgpd.sock"

    def start(self) -> None:
        """Start bgpd in the foreground, and wait until all of it answers."""
        JAIL.mkdir(mode=0o755, exist_ok=True)
        path = self.folder / "bgpd.conf"
        path.touch(mode=0o600)  # bgpd refuses a file that others may read
        path.write_text(f'socket "{self.control}"\n{render(self.config)}', encoding="utf-8")
        self.control.unlink(missing_ok=True)
        argv = ["bgpd", "-d", "-f", str(path)]
        self.daemons = [self.namespace.popen(argv, log=f"{self.name}-bgpd.log")]
        wait_until(self._answers, 10, f"{self.name}: bgpd answers", interval=0.02)

    def _answers(self) -> bool:
        """The session engine answers first; the routes' own process must have them all, too."""
        self.daemons[0].require(f"{self.name}: bgpd")
        done = run(self._command("show", "rib"), check=False)
        if done.returncode != 0:
            return False
        rib = json.loads(done.stdout or "{}").get("rib", [])
        return len(self.neighbors()) == sum(bool(n.address) for n in self.config.neighbors) and {
            canonical_prefix(each["prefix"]) for each in rib
        } >= {canonical_prefix(network) for network in self.config.networks}

    def _command(self, *words: str) -> list[str]:
        return ["bgpctl", "-j", "-s", str(self.control), *words]

    def bgpctl(self, *words: str) -> str:
        """A bgpctl command, and what it prints."""
        return run(self._command(*words)).stdout

    def query(self, *words: str) -> Any:
        """A `show` command of bgpctl, decoded."""
        return self.decoded(f"bgpctl {' '.join(words)}", self.bgpctl(*words) or "{}")

    def raw_routes(self, version: Version) -> Any:
        """`bgpctl -j show rib detail`."""
        return self.query("show", "rib", "detail", "inet" if version == 4 else "inet6")

    def bgp_routes(self, version: Version) -> Routes:
        """The Loc-RIB without what is not eligible, such as paths with its own ASN in them."""
        routes: Routes = {}
        for entry in self.raw_routes(version).get("rib", []):
            if entry.get("valid"):
                routes.setdefault(canonical_prefix(entry["prefix"]), []).append(_path(entry))
        return routes

    def neighbors(self) -> dict[str, NeighborState]:
        """`bgpctl -j show neighbor`, but for templates of neighbours."""
        found = self.query("show", "neighbor").get("neighbors", [])
        states = (_neighbor_state(each) for each in found if not each["config"]["template"])
        return {state.address: state for state in states}


def _path(entry: dict[str, Any]) -> RoutePath:
    neighbor = entry["neighbor"]
    return RoutePath(
        next_hop=entry["exit_nexthop"],
        peer="" if neighbor.get("description") == OWN_ROUTES else neighbor["remote_addr"],
        as_path=tuple(int(word) for word in re.findall(r"\d+", entry.get("aspath", ""))),
        local_pref=entry.get("localpref"),
        med=entry.get("metric"),
        origin=entry.get("origin", ""),
        communities=tuple(map(community_text, entry.get("communities", []))),
        large_communities=tuple(entry.get("large_communities", [])),
        extended_communities=tuple(
            text.replace(" ", ":", 1) for text in entry.get("extended_communities", [])
        ),
        best=bool(entry.get("best")),
        stale=bool(entry.get("stale")),
    )


def _neighbor_state(entry: dict[str, Any]) -> NeighborState:
    errors = (f"{way} {entry.get(f'last_error_{way}', '')}" for way in ("sent", "received"))
    reason = entry.get("last_shutdown_reason", "")
    return NeighborState(
        address=entry["remote_addr"],
        state=entry["state"],
        remote_as=int(entry.get("remote_as", 0)),
        received=entry["stats"]["prefixes"]["received"],
        hold_time=entry.get("session", {}).get("holdtime", 0),
        last_error=" / ".join([*(each for each in errors if not each.endswith(" ")), reason]),
        raw=entry,
    )
