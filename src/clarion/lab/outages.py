"""What FRR and a client see when a cable, a speaker or a node goes, on the standard lab.

Each measurement leaves the lab as it was, and gives what was seen in words and whether it is as it
should be. They are about a configuration like that of `examples/11-production-bgp`.
"""

from typing import NamedTuple

from clarion.lab.process import CLOCK, wait_until
from clarion.lab.stream import Stream
from clarion.lab.topology import StandardLab, segment_address

CHANGE_SECONDS = 25.0
LOOK_SECONDS = 0.02
STREAM_HERTZ_MIN = 50.0
SHUTDOWN = "65535:0"


class Seen(NamedTuple):
    """One line for people, and whether it is what was to be seen."""

    text: str
    verified: bool


def wait_bfd(lab: StandardLab, *nodes: str) -> None:
    """Until FRR's BFD with these nodes is up, over both families."""
    wanted = {address for node in nodes for address in segment_address(node)}

    def up() -> bool:
        return wanted <= {row["peer"] for row in lab.frr.bfd_peers() if row["status"] == "up"}

    wait_until(
        up, CHANGE_SECONDS, f"FRR: BFD is up with {', '.join(nodes)}", seen=lab.frr.bfd_peers
    )


def pull_cable(lab: StandardLab, node: str) -> Seen:
    """Cut a node's cable without a word, and time until FRR leads nothing there any more."""
    address = segment_address(node).ipv4
    before = nodes_with_routes(lab)
    hold = lab.frr.neighbors()[address].hold_time
    port = lab.nodes[node].ports[0]
    started = CLOCK.monotonic()
    port.unplug()
    try:
        wait_until(
            lambda: node not in nodes_with_routes(lab),
            hold + CHANGE_SECONDS,
            f"FRR drops the routes of {node}",
            interval=LOOK_SECONDS,
        )
        seconds = CLOCK.monotonic() - started
        left = nodes_with_routes(lab)
        down = [row for row in lab.frr.bfd_peers() if row["peer"] == address]
    finally:
        port.plug()
    wait_until(
        lambda: nodes_with_routes(lab) == before, CHANGE_SECONDS, f"{node} is announced again"
    )
    text = f"FRR drops its routes after {seconds:.2f} s (the hold time is {hold} s)"
    alone = left == before - {node}
    return Seen(text, alone and seconds < hold and [row["status"] for row in down] == ["down"])


def restart_speaker(lab: StandardLab, node: str, service: str) -> Seen:
    """Kill a node's speaker and start it again, while a client asks through FRR's routes.

    The client is behind FRR, which spreads its connections over the nodes. Policy Local: what FRR
    sends to the node, nobody else can answer.
    """
    address, prefix = segment_address(node).ipv4, f"{service}/32"
    speaker, gone, looks = lab.nodes[node].speaker, 0, 0
    session = _sessions(lab)[address]

    def stale() -> list[bool]:
        """Whether FRR keeps the node's route without a session; also looks into its kernel."""
        nonlocal gone, looks
        paths = [path for path in lab.frr.learned(4).get(prefix, []) if path.peer == address]
        looks += 1
        gone += len(paths) != 1 or address not in lab.frr.kernel_routes(4).get(prefix, [])
        return [path.stale for path in paths]

    stream = Stream(lab.upstream_host, service)
    try:
        if speaker is not None:
            speaker.kill()
        wait_until(
            lambda: stale() == [True], CHANGE_SECONDS, "FRR keeps the route", interval=LOOK_SECONDS
        )
        lab.start_speaker(node)

        def fresh() -> bool:
            return stale() == [False] and _sessions(lab)[address] > session

        wait_until(fresh, CHANGE_SECONDS, "FRR has the route anew", interval=LOOK_SECONDS)
    finally:
        count = stream.stop()
    kept = "FRR keeps its route" if not gone else f"ROUTE GONE at {gone} of {looks} looks"
    text = (
        f"{kept}; {count.answered} of {count.asked} requests answered ({count.pace:.0f} a second, "
        f"slowest {count.slowest * 1000:.0f} ms)"
    )
    complete = count.answered == count.asked and count.served.get(node, 0) > 0
    return Seen(text, complete and count.pace >= STREAM_HERTZ_MIN and not gone)


def drain(lab: StandardLab, node: str, service: str) -> Seen:
    """Cordon a node and take that back: where FRR's kernel sends traffic, sessions untouched."""
    before, sessions = next_hops(lab, service), _sessions(lab)
    lab.api.kubectl("cordon", node)
    try:
        wait_until(
            lambda: next_hops(lab, service) == before - {node},
            CHANGE_SECONDS,
            f"FRR sends nothing to {node}",
            interval=LOOK_SECONDS,
            seen=lambda: next_hops(lab, service),
        )
        paths = lab.frr.learned(4)[f"{service}/32"]
        marked = {lab.node_of_next_hop(p.next_hop) for p in paths if SHUTDOWN in p.communities}
        during = next_hops(lab, service)
    finally:
        lab.api.kubectl("uncordon", node)
    wait_until(
        lambda: next_hops(lab, service) == before, CHANGE_SECONDS, f"FRR sends to {node} again"
    )
    kept = _sessions(lab) == sessions
    ways = f"FRR sends to {_short(during)}; uncordoned: to {_short(before)}"
    text = f"{ways}; {'no session ended' if kept else 'A SESSION ENDED'}"
    return Seen(text, kept and marked == {node} and node in before)


def nodes_with_routes(lab: StandardLab) -> set[str]:
    """The nodes of which FRR has a route, of whichever version."""
    return {
        lab.node_of_next_hop(path.next_hop)
        for version in (4, 6)
        for paths in lab.frr.learned(version).values()
        for path in paths
    }


def next_hops(lab: StandardLab, service: str) -> set[str]:
    """The nodes among which FRR's kernel spreads the traffic for an address."""
    return {lab.node_of_next_hop(hop) for hop in lab.frr.kernel_routes(4).get(f"{service}/32", [])}


def _sessions(lab: StandardLab) -> dict[str, int]:
    """FRR's count of how often each session came up."""
    states = lab.frr.neighbors().items()
    return {address: state.raw.get("connectionsEstablished", 0) for address, state in states}


def _short(nodes: set[str]) -> str:
    return " ".join(sorted(name.removeprefix("node-") for name in nodes))
