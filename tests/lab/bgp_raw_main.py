"""A program that plays many BGP peers at once: each says one thing from a table and listens.

Run as `python bgp_raw_main.py JOBS RESULTS`; both are files in JSON.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec

from clarion.base.errors import DecodeError
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.wire import KEEPALIVE, Framer

SECONDS_MAX = 20.0
GREETING_SECONDS = 3.0
RETRY_SECONDS = 0.5
KEEPALIVES = 2
"""So many of them after the row prove that it was read and the session kept."""


class Job(msgspec.Struct):
    """One peer: from `source` to `target`, first `opening`, then the row in its state.

    Attributes:
        announce: Sent in Established before the row.
        mark: Sent behind the row when the session was kept: where this arrives, the row was read.
    """

    source: str
    target: str
    state: str
    opening: bytes
    announce: bytes
    octets: bytes
    mark: bytes


class Heard(msgspec.Struct):
    """How it ended: `end` is a NOTIFICATION's body in hexadecimal, `closed`, `up` or `silent`."""

    end: str
    said: list[str]


class Peer:
    """One connection, made again until somebody answers with an OPEN."""

    def __init__(self, job: Job) -> None:
        self.job = job

    async def play(self) -> Heard:
        """The whole conversation, then the session in the background for as long as it lasts."""
        try:
            async with asyncio.timeout(SECONDS_MAX):
                while not await self._greeted():  # noqa: ASYNC110 - nothing tells when it is ready
                    await asyncio.sleep(RETRY_SECONDS)
            async with asyncio.timeout(SECONDS_MAX):
                end = await self._talk()
        except TimeoutError:
            end = "silent"
        except OSError:
            end = "closed"
        except DecodeError as error:
            end = f"unreadable: {error.message}"
        if end == "up":
            self.writer.write(self.job.mark)
            self.rest = asyncio.create_task(self.stay())
        return Heard(end, self.said)

    async def _greeted(self) -> bool:
        """Connect and wait for the other side's OPEN; it may not be ready for us yet."""
        self.said: list[str] = []
        self.framer = Framer()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(GREETING_SECONDS):
                self.reader, self.writer = await asyncio.open_connection(
                    self.job.target, 179, local_addr=(self.job.source, 0)
                )
                while (frame := self.framer.next_frame()) is None:
                    if not (data := await self.reader.read(1 << 16)):
                        return False
                    self.framer.feed(data)
                self.said.append(frame.type.name)
                return frame.type is MessageType.OPEN
        return False

    async def stay(self) -> None:
        """Keep the session, so that its routes can be looked at."""
        with contextlib.suppress(OSError, DecodeError):
            await self._listen(0)

    async def _talk(self) -> str:
        job = self.job
        if job.state == "OpenSent":
            self.writer.write(job.octets)
            return await self._listen(KEEPALIVES + 1)
        self.writer.write(job.opening)
        if (end := await self._listen(1)) != "up" or job.state == "OpenConfirm":
            return end if end != "up" else await self._send_row()
        self.writer.write(KEEPALIVE + job.announce)
        if (end := await self._listen(1)) != "up":
            return end
        return await self._send_row()

    async def _send_row(self) -> str:
        self.writer.write(self.job.octets)
        return await self._listen(KEEPALIVES)

    async def _listen(self, keepalives: int) -> str:
        """Until so many KEEPALIVEs have come, each of them answered, or the end."""
        while True:
            while (frame := self.framer.next_frame()) is not None:
                self.said.append(frame.type.name)
                if frame.type is MessageType.NOTIFICATION:
                    return frame.body.hex()
                if frame.type is MessageType.KEEPALIVE:
                    keepalives -= 1
                    if not keepalives:
                        return "up"
                    self.writer.write(KEEPALIVE)
            data = await self.reader.read(1 << 16)
            if not data:
                return "closed"
            self.framer.feed(data)


def _write(results: Path, heard: list[Heard]) -> None:
    partial = results.with_suffix(".part")
    partial.write_bytes(msgspec.json.encode(heard))
    partial.rename(results)


async def main(jobs: list[Job], results: Path) -> None:
    """All at once; sessions that were kept stay until this program is ended."""
    peers = [Peer(job) for job in jobs]
    heard = await asyncio.gather(*(peer.play() for peer in peers))
    _write(results, heard)
    await asyncio.Event().wait()


if __name__ == "__main__":
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=list[Job])
    asyncio.run(main(plan, Path(sys.argv[2])))
