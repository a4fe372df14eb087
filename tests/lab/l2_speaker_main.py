"""A program around `PulseClient` for the interoperability tests: one JSON command per connection.

Run as `python l2_speaker_main.py SOCKET`. Each connection to the Unix socket carries one `Command`
on a line and gets one `State` back, when the command is in force.
"""

import asyncio
import contextlib
import sys

import msgspec

from clarion.base.addr import parse_address
from clarion.edge.pulse import Lapsed, PulseClient, Report, Restarted
from clarion.proto.l2.responder import Counts
from clarion.proto.pulse.messages import Configure, Interfaces, Notice


class Command(msgspec.Struct, kw_only=True):
    """What to do, in this order; what is None is left as it is."""

    configure: Configure | None = None
    table: dict[str, list[str] | None] | None = None
    stop: bool = False


class State(msgspec.Struct, kw_only=True):
    """How things stand after a command. `reports` are all since the start but interface lists."""

    pulse: int | None
    interfaces: dict[str, tuple[str | None, str | None]]
    counts: dict[str, Counts]
    table: list[str]
    reports: list[Notice | Restarted | Lapsed]


class Program:
    """One client and its control socket."""

    client: PulseClient

    def __init__(self) -> None:
        self.reports: list[Notice | Restarted | Lapsed] = []
        self.stopped = asyncio.Event()

    async def report(self, report: Report) -> None:
        if not isinstance(report, Interfaces):
            self.reports.append(report)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = msgspec.json.decode(await reader.readline(), type=Command)
        if command.configure is not None:
            self.client.configure(command.configure)
        if command.table is not None:
            self.client.set_table(
                {
                    parse_address(address): None if names is None else frozenset(names)
                    for address, names in command.table.items()
                }
            )
            await self.client.settled()
        if command.stop:
            await self.client.stop()
            self.stopped.set()
        writer.write(msgspec.json.encode(self.state()) + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    def state(self) -> State:
        return State(
            pulse=self.client.pid,
            interfaces={i.name: (i.arp, i.ndp) for i in self.client.interfaces},
            counts={str(address): counts for address, counts in self.client.counts.items()},
            table=[str(address) for address in self.client.table],
            reports=self.reports,
        )

    async def run(self, path: str) -> None:
        self.client = await PulseClient.start(self.report)
        await self.client.ready()
        server = await asyncio.start_unix_server(self.serve, path, limit=1 << 20)
        async with server:
            await self.stopped.wait()


if __name__ == "__main__":
    asyncio.run(Program().run(sys.argv[1]))
