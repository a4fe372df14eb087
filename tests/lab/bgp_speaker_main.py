"""A program around `BgpSpeaker` for the interoperability tests: one JSON command per connection.

Run as `python bgp_speaker_main.py SOCKET`. Each connection to the Unix socket carries one `Command`
on a line and gets one `Report` back.
"""

import asyncio
import resource
import sys

import msgspec

from clarion.edge.bgp import BgpSpeaker
from clarion.edge.bgp_listener import ListenerStatus
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.proto.bgp.config import PeerConfig, SessionStatus
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import StateChanged

COMMAND_BYTES = 64 << 20


class Command(msgspec.Struct, kw_only=True):
    """What to do, in this order; what is None is left as it is.

    With `marks` the routes are set once for each of these communities, one after the other.
    """

    peers: dict[str, PeerConfig] | None = None
    routes: dict[str, list[Route]] | None = None
    marks: list[int] | None = None
    stop: str | None = None


class Report(msgspec.Struct, kw_only=True):
    """How things stand after a command. `changes` are all changes of state since the start."""

    status: dict[str, SessionStatus]
    listener: ListenerStatus | None
    changes: list[tuple[str, str, str]]
    cpu_seconds: float
    effects: dict[str, str]


def marked(routes: list[Route], mark: int) -> list[Route]:
    return [msgspec.structs.replace(route, communities=(mark,)) for route in routes]


class Program:
    """One speaker and its control socket."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.stopped = asyncio.Event()
        self.speaker = BgpSpeaker(
            node_name="node",
            clock=SystemClock(),
            entropy=SystemEntropy(),
            on_change=self.changed,
        )

    def changed(self, name: str, change: StateChanged) -> None:
        self.changes.append((name, str(change.new), change.reason))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = msgspec.json.decode(await reader.readline(), type=Command)
        effects: dict[str, str] = {}
        if command.peers is not None:
            done = self.speaker.set_peers(command.peers)
            effects = {name: effect.name for name, effect in done.items()}
        for mark in [None] if command.marks is None else command.marks:
            for name, routes in (command.routes or {}).items():
                self.speaker.set_routes(name, routes if mark is None else marked(routes, mark))
            await asyncio.sleep(0)  # the loop turns: sockets are written
        usage = resource.getrusage(resource.RUSAGE_SELF)
        report = Report(
            status=self.speaker.status(),
            listener=self.speaker.listener_status(),
            changes=self.changes,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            effects=effects,
        )
        if command.stop is not None:
            await self.speaker.stop(command.stop)
        writer.write(msgspec.json.encode(report))
        await writer.drain()
        writer.close()
        if command.stop is not None:
            self.stopped.set()


async def main(path: str) -> None:
    """Serve until a command says stop."""
    program = Program()
    server = await asyncio.start_unix_server(program.serve, path, limit=COMMAND_BYTES)
    async with server:
        await program.stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
