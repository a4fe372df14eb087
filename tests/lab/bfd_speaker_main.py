"""The native back end with its pulse process, for the BFD tests: a JSON command per connection.

Run as `python bfd_speaker_main.py SOCKET`. Each connection to the Unix socket carries one `Command`
on a line and gets one `State` back.
"""

import asyncio
import contextlib
import sys

import msgspec

from clarion.base.addr import parse_address, parse_prefix
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.daemons.sessions import Sessions
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.settings import Peer
from clarion.edge.pulse import PulseClient, Report
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.config import BfdStatus
from clarion.proto.pulse.messages import Notice
from clarion.testing.memoryapi import MemoryClient

OUR_ASN, THEIR_ASN = 64513, 64512


class Row(msgspec.Struct, kw_only=True):
    """One peer, as text; it is told one route."""

    address: str = ""
    interface: str = ""
    vrf: str = ""
    source: str = ""
    own: int = OUR_ASN
    asn: int = THEIR_ASN
    multihop: bool = False
    graceful: bool = False
    profile: BFDProfileSpec | None = BFDProfileSpec(transmit_interval=100, receive_interval=100)


class Command(msgspec.Struct, kw_only=True):
    """What to do, in this order; what is None is left as it is."""

    peers: dict[str, Row] | None = None
    restarted: bool = False
    stop: bool = False
    keep: bool = False


class State(msgspec.Struct, kw_only=True):
    """How things stand; `sessions` has the state and the last error of each BGP session."""

    pulse: int | None
    sessions: dict[str, tuple[str, str]]
    paths: dict[str, BfdStatus]
    metrics: dict[str, float]
    notices: list[str]


def _peer(name: str, row: Row) -> Peer:
    return Peer(
        name=name,
        my_asn=row.own,
        peer_asn=row.asn,
        address=parse_address(row.address) if row.address else None,
        interface=row.interface,
        vrf=row.vrf,
        source_address=parse_address(row.source) if row.source else None,
        hold_time=90.0,
        connect_time=1.0,
        ebgp_multihop=row.multihop,
        graceful_restart=row.graceful,
        bfd_profile=name if row.profile else "",
    )


class Program:
    """The back end, the client, and the control socket."""

    client: PulseClient
    sessions: Sessions

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.stopped = asyncio.Event()

    async def report(self, report: Report) -> None:
        if isinstance(report, Notice):
            self.notices.append(report.message)

    def set_peers(self, rows: dict[str, Row]) -> None:
        peers = {name: _peer(name, row) for name, row in rows.items()}
        profiles = {name: row.profile for name, row in rows.items() if row.profile}
        self.sessions.set_peers(peers, profiles)
        for name, row in rows.items():
            prefix = parse_prefix("2001:db8:ff::7/128" if ":" in row.address else "203.0.113.7/32")
            self.sessions.change_routes(name, {prefix: AdvertisedRoute(prefix)})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = msgspec.json.decode(await reader.readline(), type=Command)
        if command.peers is not None:
            if command.restarted:
                self.sessions.begin(restarted=True)
            self.set_peers(command.peers)
        state = self.state()
        if command.stop:
            await self.sessions.stop(keep_routes=command.keep)
            await self.client.stop(keep_paths=command.keep)
            self.stopped.set()
        writer.write(msgspec.json.encode(state) + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    def state(self) -> State:
        return State(
            pulse=self.client.pid,
            sessions={
                name: (report.state, report.last_error.text if report.last_error else "")
                for name, report in self.sessions.states().items()
            },
            paths=self.sessions.paths(),
            metrics={
                f"{sample.family.name} {' '.join(sample.labels)}": sample.value
                for sample in self.sessions.samples()
            },
            notices=self.notices,
        )

    async def run(self, path: str) -> None:
        runtime = Runtime("metallb-speaker", MemoryClient(), "clarion-system")
        told = SessionNotices(runtime.events, "node", "clarion-system", {})
        self.sessions = Sessions(runtime, "node", 179, told, lambda: None)
        self.client = await PulseClient.start(self.report)
        self.sessions.attach(self.client)
        server = await asyncio.start_unix_server(self.serve, path, limit=1 << 20)
        async with server:
            await self.stopped.wait()


if __name__ == "__main__":
    asyncio.run(Program().run(sys.argv[1]))
