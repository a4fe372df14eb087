"""A program that holds one BGP session with a router and writes down all of it.

Run as `python bgp_record_main.py PLAN RECORDING`. The plan is the head of a recording. At SIGTERM
the session is stopped and the recording is written. Until then, RECORDING with the suffix `.state`
has the state, how often it was established and the prefixes received.
"""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from clarion.edge.clock import SystemClock
from clarion.proto.bgp.iana import BGP_PORT
from clarion.proto.bgp.session import Dial, Drop
from clarion.testing.bgprecord import Head, Player, Recording, Step, encode

EVENTS_MAX = 100


class Program:
    """The session's driver."""

    def __init__(self, head: Head, target: Path) -> None:
        self.head, self.state = head, target.with_suffix(".state")
        self.player = Player(head)
        self.steps: list[Step] = []
        self.events: asyncio.Queue[tuple[object, Step]] = asyncio.Queue(EVENTS_MAX)
        self.clock = SystemClock()
        self.began = self.clock.monotonic()
        self.line: asyncio.Task[None] | None = None
        self.writer: asyncio.StreamWriter | None = None

    def step(self, do: str, data: bytes = b"", why: str = "") -> None:
        """Tell the session something, and do what it asks."""
        now = round(self.clock.monotonic() - self.began, 6)
        done = self.player.play(Step(at=now, do=do, data=data.hex(), why=why))
        self.steps.append(done)
        for output in self.player.outputs:
            if isinstance(output, Dial):
                self.line = asyncio.create_task(self.connect())
            elif isinstance(output, Drop):
                self.drop(output.last_words)
        if self.writer is not None and done.sends:
            self.writer.write(bytes.fromhex(done.sends))
        status = self.player.session.status()
        told = (status.state, status.established_count, status.prefixes_received)
        self.state.write_text(" ".join(map(str, told)))

    def drop(self, words: bytes) -> None:
        """End the connection."""
        if self.line is not None:
            self.line.cancel()
        if self.writer is not None:
            self.writer.write(words)
            self.writer.close()
        self.line = self.writer = None

    async def connect(self) -> None:
        """One connection, from the attempt to its end."""
        me = asyncio.current_task()
        ends = self.head.endpoints
        try:
            reader, self.writer = await asyncio.open_connection(
                str(ends.remote), BGP_PORT, local_addr=(str(ends.local), 0)
            )
            await self.events.put((me, Step(at=0, do="connected")))
            while data := await reader.read(1 << 16):
                await self.events.put((me, Step(at=0, do="receive", data=data.hex())))
            why = "the peer closed the connection"
        except OSError as error:
            why = error.strerror or type(error).__name__
        await self.events.put((me, Step(at=0, do="lost", why=why)))

    async def run(self) -> None:
        """Until somebody says stop."""
        self.step("start")
        while True:
            deadline = self.player.session.next_deadline()
            when = None if deadline is None else self.began + deadline - self.clock.monotonic()
            try:
                whose, event = await asyncio.wait_for(self.events.get(), when)
            except TimeoutError:
                self.step("timers")
                continue
            if event.do == "stop":
                break
            if whose is self.line:
                self.step(event.do, bytes.fromhex(event.data), event.why)
        self.step("stop", why="the recording is over")

    @property
    def recording(self) -> Recording:
        """All that was written down."""
        return Recording(self.head, tuple(self.steps), self.player.end())

    def stop(self) -> None:
        """Have it end."""
        self.events.put_nowait((None, Step(at=0, do="stop")))


async def main(program: Program) -> None:
    """Until SIGTERM."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, program.stop)
    await program.run()


if __name__ == "__main__":
    plan, target = map(Path, sys.argv[1:])
    program = Program(msgspec.json.decode(plan.read_bytes(), type=Head), target)
    asyncio.run(main(program))
    target.write_bytes(encode(program.recording))
