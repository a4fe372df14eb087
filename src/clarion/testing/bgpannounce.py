"""Clarion's BGP sessions and their sockets alone: announce many host routes to some receivers.

`python -m clarion.testing.bgpannounce PREFIXES RECEIVER...`, until SIGTERM. The routes are given
when all sessions stand.
"""

import asyncio
import signal
import sys

from clarion.base.addr import Prefix, parse_address
from clarion.edge.bgp import BgpSpeaker
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.proto.bgp.config import PeerConfig, State
from clarion.proto.bgp.routes import Route, RouteTable
from clarion.proto.bgp.session import StateChanged


async def speak(prefixes: int, receivers: list[str]) -> None:
    """Announce, and stay."""
    ended, waited = asyncio.Event(), set(receivers)
    everybody = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    def on_change(peer: str, change: StateChanged) -> None:
        if change.new is State.ESTABLISHED:
            waited.discard(peer)
        if not waited:
            everybody.set()

    clock, entropy = SystemClock(), SystemEntropy()
    speaker = BgpSpeaker(
        node_name="node", clock=clock, entropy=entropy, port=None, on_change=on_change
    )
    speaker.set_peers(
        {
            receiver: PeerConfig(
                name=receiver,
                local_asn=64513,
                peer_asn=64512,
                peer_address=parse_address(receiver),
            )
            for receiver in receivers
        }
    )
    await everybody.wait()
    first = parse_address("198.18.0.0").value
    communities = (64513 << 16 | 7,)
    routes = RouteTable(
        [Route(Prefix(4, first + n, 32), communities=communities) for n in range(prefixes)]
    )
    for receiver in receivers:
        speaker.set_routes(receiver, routes)
    await ended.wait()
    await speaker.stop()


if __name__ == "__main__":
    asyncio.run(speak(int(sys.argv[1]), sys.argv[2:]))
