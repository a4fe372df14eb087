"""GoBGP in a namespace. It keeps routes to itself: nothing reaches the kernel."""

import json
from collections.abc import Iterator
from typing import Any

from clarion.lab.process import wait_until
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
    link_bandwidth_text,
)

# SessionState of GoBGP's API.
STATES = ("Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established")
EXTENDED_SUBTYPES = {2: "rt", 3: "soo"}
ORIGINS = ("IGP", "EGP", "incomplete")


def render(config: RouterConfig) -> str:
    """Configuration of gobgpd, in TOML."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: RouterConfig) -> Iterator[str]:
    yield "[global.config]"
    yield f"  as = {config.asn}"
    yield f'  router-id = "{config.router_id}"'
    yield from config.extra
    for index, neighbor in enumerate(config.neighbors):
        if neighbor.listen_range:
            group = f"range{index}"
            yield "[[peer-groups]]"
            yield from _peer_lines("peer-groups", neighbor, f'peer-group-name = "{group}"')
            yield "[[dynamic-neighbors]]"
            yield "  [dynamic-neighbors.config]"
            yield f'    prefix = "{neighbor.listen_range}"'
            yield f'    peer-group = "{group}"'
        else:
            yield "[[neighbors]]"
            key = "neighbor-interface" if neighbor.interface else "neighbor-address"
            who = f'{key} = "{neighbor.interface or neighbor.address}"'
            yield from _peer_lines("neighbors", neighbor, who)


def _peer_lines(section: str, neighbor: Neighbor, who: str) -> Iterator[str]:
    yield f"  [{section}.config]"
    yield f"    {who}"
    yield f"    peer-as = {neighbor.remote_as}"
    if neighbor.password:
        yield f'    auth-password = "{neighbor.password}"'
    yield f"  [{section}.timers.config]"
    yield f"    connect-retry = {neighbor.connect_retry}"
    yield f"    hold-time = {neighbor.hold_time}"
    yield f"    keepalive-interval = {neighbor.keepalive}"
    yield "    idle-hold-time-after-reset = 1"
    yield f"  [{section}.transport.config]"
    yield f"    passive-mode = {str(neighbor.passive or bool(neighbor.listen_range)).lower()}"
    yield f"    remote-port = {neighbor.port}"
    if neighbor.local_address:
        yield f'    local-address = "{neighbor.local_address}"'
    if neighbor.multihop:
        yield f"  [{section}.ebgp-multihop.config]"
        yield "    enabled = true"
        yield f"    multihop-ttl = {neighbor.multihop}"
    if neighbor.ttl_security:
        yield f"  [{section}.ttl-security.config]"
        yield "    enabled = true"
        yield "    ttl-min = 255"
    if neighbor.graceful_restart:
        yield f"  [{section}.graceful-restart.config]"
        yield "    enabled = true"
        yield "    restart-time = 20"
    for family in neighbor.active_families():
        yield f"  [[{section}.afi-safis]]"
        yield f"    [{section}.afi-safis.config]"
        yield f'      afi-safi-name = "{family}-unicast"'
        if neighbor.graceful_restart:
            yield f"    [{section}.afi-safis.mp-graceful-restart.config]"
            yield "      enabled = true"


class Gobgp(Router):
    """GoBGP 3: the client runs inside the namespace, on its loopback."""

    kind = "gobgp"

    def start(self) -> None:
        """Start gobgpd and wait for its API; originate the networks."""
        path = self.folder / "gobgpd.toml"
        path.touch(mode=0o600)
        path.write_text(render(self.config), encoding="utf-8")
        argv = ["gobgpd", "-f", str(path), "--api-hosts", "127.0.0.1:50051", "--pprof-disable"]
        if any(neighbor.graceful_restart for neighbor in self.config.neighbors):
            argv.append("-r")
        self.daemons = [self.namespace.popen(argv, log=f"{self.name}-gobgpd.log")]
        wait_until(self._answers, 15, f"{self.name}: gobgpd answers", interval=0.05)
        for network in self.config.networks:
            family = "ipv6" if ":" in network else "ipv4"
            self.gobgp("global", "rib", "add", "-a", family, network)

    def _answers(self) -> bool:
        self.daemons[0].require(f"{self.name}: gobgpd")
        done = self.namespace.run(["gobgp", "global", "-j"], check=False)
        return done.returncode == 0 and str(self.config.asn) in done.stdout

    def gobgp(self, *words: str) -> str:
        """A gobgp command, and what it prints."""
        return self.namespace.run(["gobgp", *words]).stdout

    def query(self, *words: str) -> Any:
        """A gobgp command with JSON output, decoded."""
        return self.decoded(f"gobgp {' '.join(words)}", self.gobgp(*words, "-j") or "null")

    def raw_routes(self, version: Version) -> Any:
        """`gobgp global rib -j`."""
        return self.query("global", "rib", "-a", f"ipv{version}")

    def bgp_routes(self, version: Version) -> Routes:
        """The global table."""
        record = self.raw_routes(version) or {}
        return {
            canonical_prefix(prefix): [_path(entry) for entry in entries]
            for prefix, entries in record.items()
        }

    def received(self, address: str, version: Version) -> Routes:
        """What one neighbour announced, before any policy (adj-RIB-in)."""
        record = self.query("neighbor", address, "adj-in", "-a", f"ipv{version}") or {}
        return {
            canonical_prefix(prefix): [_path(entry) for entry in entries]
            for prefix, entries in record.items()
        }

    def neighbors(self) -> dict[str, NeighborState]:
        """`gobgp neighbor -j`."""
        found = [_neighbor_state(entry) for entry in self.query("neighbor") or []]
        return {state.address: state for state in found}


def _path(entry: dict[str, Any]) -> RoutePath:
    by_type = {attribute["type"]: attribute for attribute in entry.get("attrs") or []}
    next_hop = by_type.get(3, {}).get("nexthop") or by_type.get(14, {}).get("nexthop", "")
    peer = entry.get("neighbor-ip", "")
    return RoutePath(
        next_hop=next_hop,
        peer="" if peer in ("<nil>", "invalid IP") else peer,
        as_path=tuple(
            asn for part in by_type.get(2, {}).get("as_paths") or () for asn in part["asns"] or ()
        ),
        local_pref=by_type.get(5, {}).get("value"),
        med=by_type.get(4, {}).get("metric"),
        origin=ORIGINS[by_type.get(1, {}).get("value", 2)],
        communities=tuple(
            community_text(number) for number in by_type.get(8, {}).get("communities") or ()
        ),
        large_communities=tuple(
            f"{each['ASN']}:{each['LocalData1']}:{each['LocalData2']}"
            for each in by_type.get(32, {}).get("value") or ()
        ),
        extended_communities=tuple(map(_extended, by_type.get(16, {}).get("value", []))),
        best=bool(entry.get("best")),
        stale=bool(entry.get("stale")),
    )


def _extended(entry: dict[str, Any]) -> str:
    if "bandwidth" in entry:
        return link_bandwidth_text(entry["asn"], entry["bandwidth"])
    name = EXTENDED_SUBTYPES.get(entry.get("subtype", 0))
    if name is None or "value" not in entry:
        return json.dumps(entry, sort_keys=True)
    key, _, value = entry["value"].partition(":")
    if entry["type"] == 2:  # a four-octet AS, which GoBGP writes as two halves
        high, low = map(int, key.split("."))
        key = str(high << 16 | low)
    return f"{name}:{key}:{value}"


def _neighbor_state(entry: dict[str, Any]) -> NeighborState:
    state = entry.get("state", {})
    families = entry.get("afi_safis", [])
    timers = entry.get("timers", {}).get("state", {})
    return NeighborState(
        address=state.get("neighbor_address", ""),
        state=STATES[state.get("session_state", 0)],
        remote_as=state.get("peer_asn", 0),
        received=sum(each.get("state", {}).get("received", 0) for each in families),
        hold_time=int(timers.get("negotiated_hold_time", 0)),
        last_error=str(state.get("disconnect_reason", "")),
        raw=entry,
    )
