"""A program around `PulseClient` for the BFD tests: one JSON command per connection.

Run as `python bfd_speaker_main.py SOCKET`. Each connection to the Unix socket carries one `Command`
on a line and gets one `State` back.
"""

import asyncio
import contextlib
import sys

import msgspec

from clarion.base.addr import parse_address
from clarion.edge.pulse import PulseClient, Report
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.pulse.messages import BfdReport, Notice, WatchedSession


class Wanted(msgspec.Struct, kw_only=True):
    """One session, as text."""

    remote: str
    local: str = ""
    interface: str = ""
    vrf: str = ""
    multihop: bool = False
    outlive: float = 0.0
    config: BfdConfig = BfdConfig()


class Command(msgspec.Struct, kw_only=True):
    """What to do, in this order; what is None is left as it is."""

    sessions: dict[str, Wanted] | None = None
    stop: bool = False


class State(msgspec.Struct, kw_only=True):
    """How things stand. `downs` are the sessions that went from up to down, with the reason."""

    pulse: int | None
    sessions: dict[str, BfdStatus]
    downs: list[tuple[str, str]]
    notices: list[str]


def packed(text: str) -> bytes:
    return parse_address(text).packed if text else b""


class Program:
    """One client and its control socket."""

    client: PulseClient

    def __init__(self) -> None:
        self.sessions: dict[str, BfdStatus] = {}
        self.downs: list[tuple[str, str]] = []
        self.notices: list[str] = []
        self.stopped = asyncio.Event()

    async def report(self, report: Report) -> None:
        if isinstance(report, Notice):
            self.notices.append(report.message)

    def bfd(self, report: BfdReport | None) -> None:
        if report is None:
            self.sessions.clear()
            return
        for name, status in report.sessions.items():
            before = self.sessions.get(name)
            if before is not None and before.up and not status.up:
                self.downs.append((name, status.last_down))
            self.sessions[name] = status

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command = msgspec.json.decode(await reader.readline(), type=Command)
        if command.sessions is not None:
            self.client.watch_bfd(
                tuple(
                    WatchedSession(
                        name=name,
                        remote=packed(row.remote),
                        local=packed(row.local),
                        interface=row.interface,
                        vrf=row.vrf,
                        multihop=row.multihop,
                        outlive=row.outlive,
                        config=row.config,
                    )
                    for name, row in command.sessions.items()
                )
            )
        if command.stop:
            await self.client.stop()
            self.stopped.set()
        state = State(
            pulse=self.client.pid,
            sessions=self.sessions,
            downs=self.downs,
            notices=self.notices,
        )
        writer.write(msgspec.json.encode(state) + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def run(self, path: str) -> None:
        self.client = await PulseClient.start(self.report)
        self.client.on_bfd = self.bfd
        server = await asyncio.start_unix_server(self.serve, path, limit=1 << 20)
        async with server:
            await self.stopped.wait()


if __name__ == "__main__":
    asyncio.run(Program().run(sys.argv[1]))
