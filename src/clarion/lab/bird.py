"""BIRD in a namespace."""

import re
import struct
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
    link_bandwidth_text,
)

ROUTE = re.compile(
    r"^(?P<prefix>[0-9a-f.:]+/\d+)?\s+(?P<kind>\S+) \[(?P<protocol>\S+) [^\]]*\](?P<best> \*)?"
)
PAIR = re.compile(r"\((\d+), ?(\d+)\)")
EXTENDED = re.compile(r"\(([^,]+), ?([^,]+), ?(\d+)\)")
TRIPLE = re.compile(r"\((\d+), ?(\d+), ?(\d+)\)")


def render(config: RouterConfig) -> str:
    """bird.conf."""
    return "\n".join(_lines(config)) + "\n"


def _lines(config: RouterConfig) -> Iterator[str]:
    yield f"router id {config.router_id};"
    yield "protocol device { scan time 2; }"
    yield "protocol direct { ipv4; ipv6; }"
    for version in (4, 6):
        merge = f"merge paths on limit {config.max_paths};"
        yield (
            f"protocol kernel k{version} {{ {merge} "
            f"ipv{version} {{ import none; export where source = RTS_BGP; }}; }}"
        )
        yield f"protocol static s{version} {{ ipv{version};"
        yield from (
            f"  route {network} blackhole;"
            for network in config.networks
            if (":" in network) == (version == 6)
        )
        yield "}"
    if any(neighbor.bfd for neighbor in config.neighbors):
        timing = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;"
        yield f'protocol bfd {{ interface "*" {{ {timing} }}; }}'
    for index, neighbor in enumerate(config.neighbors):
        yield from _neighbor_lines(f"n{index}", neighbor, config.asn)
    yield from config.extra


def _neighbor_lines(name: str, neighbor: Neighbor, asn: int) -> Iterator[str]:
    yield f"protocol bgp {name} {{"
    yield f"  local {neighbor.local_address + ' ' if neighbor.local_address else ''}as {asn};"
    if neighbor.listen_range:
        yield f"  neighbor range {neighbor.listen_range} as {neighbor.remote_as};"
        yield f'  dynamic name "{name}d";'
    elif neighbor.interface:
        raise LabError("BIRD 2.0.12 needs an address for a neighbour, not only an interface")
    else:
        port = f" port {neighbor.port}" if neighbor.port != 179 else ""
        yield f"  neighbor {neighbor.address}{port} as {neighbor.remote_as};"
    yield f"  hold time {neighbor.hold_time}; keepalive time {neighbor.keepalive};"
    retry = neighbor.connect_retry
    yield f"  connect retry time {retry}; connect delay time {retry};"
    yield "  error wait time 1, 2;"  # the default of 60 s would hide every second session
    if neighbor.password:
        yield f'  password "{neighbor.password}";'
    if neighbor.multihop:
        yield f"  multihop {neighbor.multihop};"
    elif neighbor.remote_as == asn:
        yield "  direct;"
    if neighbor.ttl_security:
        yield "  ttl security on;"
    if neighbor.passive:
        yield "  passive on;"
    if neighbor.bfd:
        yield "  bfd on;"
    if neighbor.graceful_restart:
        yield "  graceful restart on; graceful restart time 20;"
    for family in neighbor.active_families():
        options = "extended next hop on;" if neighbor.extended_next_hop else ""
        itself = "next hop self;" if neighbor.next_hop_self else ""
        export = "export where source ~ [ RTS_STATIC, RTS_BGP ];"
        yield f"  {family} {{ import all; {export} {options} {itself} }};"
    yield "}"


class Bird(Router):
    """BIRD 2."""

    kind = "bird"
    kernel_protocol = "bird"

    def _write(self) -> str:
        path = self.folder / "bird.conf"
        path.touch(mode=0o600)
        path.write_text(render(self.config), encoding="utf-8")
        return str(path)

    def start(self) -> None:
        """Start bird in the foreground."""
        control = self.folder / "bird.ctl"
        control.unlink(missing_ok=True)
        argv = ["bird", "-f", "-c", self._write(), "-s", str(control)]
        argv += ["-P", str(self.folder / "bird.pid")]
        if any(neighbor.graceful_restart for neighbor in self.config.neighbors):
            argv.append("-R")
        self.daemons = [self.namespace.popen(argv, log=f"{self.name}-bird.log")]
        wait_until(self._answers, 10, f"{self.name}: bird answers", interval=0.02)

    def _answers(self) -> bool:
        self.daemons[0].require(f"{self.name}: bird")
        done = run(["birdc", "-s", str(self.folder / "bird.ctl"), "show status"], check=False)
        return "Daemon is up and running" in done.stdout or "recovery" in done.stdout

    def birdc(self, command: str) -> str:
        """A birdc command, and what it prints."""
        return run(["birdc", "-s", str(self.folder / "bird.ctl"), command]).stdout

    def configure(self, config: RouterConfig) -> None:
        """Load another configuration; sessions that it does not touch stay up."""
        self.config = config
        self._write()
        self.load()

    def load(self, path: Path | None = None) -> None:
        """Load a whole configuration from another file, or its own file again."""
        said = self.birdc("configure" if path is None else f'configure "{path}"')
        if "Reconfigured" not in said and "Reconfiguration in progress" not in said:
            raise LabError(f"{self.name}: birdc configure: {said}")

    def raw_routes(self, version: Version) -> str:
        """`show route all`, the text (BIRD has no JSON)."""
        return self.birdc(f"show route all table master{version}")

    def bgp_routes(self, version: Version) -> Routes:
        """BGP and static routes of the main table."""
        names = {state.raw["name"]: address for address, state in self.neighbors().items()}
        return parse_routes(self.raw_routes(version), names)

    def neighbors(self) -> dict[str, NeighborState]:
        """`show protocols all`, BGP only."""
        found = (_neighbor_state(block) for block in self.birdc("show protocols all").split("\n\n"))
        return {state.address: state for state in found if state is not None and state.address}


def parse_routes(text: str, peers: dict[str, str]) -> Routes:
    """Routes of `show route all`; `peers` maps protocol names to neighbour addresses."""
    routes: Routes = {}
    prefix = ""
    header: re.Match[str] | None = None
    facts: dict[str, str] = {}

    def flush() -> None:
        if header is not None and facts.get("Type", "").split(" ")[0] in ("BGP", "static"):
            path = _path(facts, peers.get(header["protocol"], ""), best=bool(header["best"]))
            routes.setdefault(prefix, []).append(path)

    for line in text.splitlines():
        match = ROUTE.match(line)
        if match:
            flush()
            header, facts = match, {}
            prefix = canonical_prefix(match["prefix"]) if match["prefix"] else prefix
        elif line.startswith("\t") and ": " in line:
            key, _, value = line.strip().partition(": ")
            facts[key] = value
    flush()
    return routes


def _path(facts: dict[str, str], peer: str, *, best: bool) -> RoutePath:
    hops = facts.get("BGP.next_hop", "").split()
    local_pref, med = facts.get("BGP.local_pref"), facts.get("BGP.med")
    return RoutePath(
        next_hop=hops[0] if hops else "",
        peer=peer,
        as_path=tuple(int(word) for word in re.findall(r"\d+", facts.get("BGP.as_path", ""))),
        local_pref=None if local_pref is None else int(local_pref),
        med=None if med is None else int(med),
        origin=facts.get("BGP.origin", ""),
        communities=tuple(":".join(pair) for pair in PAIR.findall(facts.get("BGP.community", ""))),
        large_communities=tuple(
            ":".join(triple) for triple in TRIPLE.findall(facts.get("BGP.large_community", ""))
        ),
        extended_communities=tuple(
            _extended(*found) for found in EXTENDED.findall(facts.get("BGP.ext_community", ""))
        ),
        best=best,
        stale="BGP.stale" in facts,
    )


def _extended(kind: str, key: str, value: str) -> str:
    if kind == "unknown 0x4004":  # BIRD 2.0 has no name for the link bandwidth: a float in 32 bits
        (octets,) = struct.unpack("!f", int(value).to_bytes(4, "big"))
        return link_bandwidth_text(key, octets)
    return f"{'soo' if kind == 'ro' else kind}:{key}:{value}"


def _neighbor_state(block: str) -> NeighborState | None:
    lines = [line for line in block.splitlines() if line.strip()]
    head = next((line.split() for line in lines if re.match(r"^\S+\s+BGP\s", line)), None)
    if head is None:
        return None
    facts: dict[str, Any] = {"name": head[0], "text": block}
    for line in lines:
        key, separator, value = line.strip().partition(": ")
        if separator:
            facts.setdefault(key.rstrip(":"), value.strip())
    imported = re.findall(r"Routes:\s+(\d+) imported", block)
    hold = facts.get("Hold timer", "/0").partition("/")[2]
    return NeighborState(
        address=facts.get("Neighbor address", "").split("%")[0],
        state=facts.get("BGP state", head[3]),
        remote_as=int(facts.get("Neighbor AS", 0)),
        received=sum(int(count) for count in imported),
        hold_time=int(float(hold or 0)),
        last_error=facts.get("Last error", ""),
        raw=facts,
    )
