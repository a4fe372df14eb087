"""Requests over HTTP at a steady pace, each in a connection of its own, until SIGTERM; counted.

What is not answered within `PATIENCE_SECONDS` is lost. `Stream` starts this program on a host of
the lab; the program prints one `Count` as JSON when it is told to stop.
"""

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Sequence

import msgspec

from clarion.lab.netns import Namespace
from clarion.lab.process import CLOCK, LabError, wait_until

PACE_SECONDS = 0.0125
PATIENCE_SECONDS = 3.0
UNDER_WAY = "under way"
ANSWER = re.compile(rb"HTTP/1.1 200 .*\r\n\r\nserved by (\S+)", re.DOTALL)
REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"


class Count(msgspec.Struct, kw_only=True):
    """What became of the requests; `served` are answers by node. Times are seconds."""

    asked: int = 0
    served: dict[str, int] = {}
    slowest: float = 0.0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """How many were answered at all."""
        return sum(self.served.values())

    @property
    def pace(self) -> float:
        """Requests a second."""
        return self.asked / self.seconds if self.seconds else 0.0


class Stream:
    """The program below, running on a host."""

    def __init__(self, host: Namespace, address: str, port: int = 80) -> None:
        self._log = host.lab.logs / f"stream-{host.name}-{CLOCK.monotonic():.0f}.log"
        argv = [sys.executable, "-m", "clarion.lab.stream", address, str(port)]
        self._process = host.popen(argv, log=self._log)
        wait_until(self._under_way, 20, f"{host.name}: {address} answers the first request")

    def _under_way(self) -> bool:
        self._process.require("the stream of requests")
        return self._log.read_text().startswith(UNDER_WAY)

    def stop(self) -> Count:
        """Ask no more, wait for the answers that are due, and give the count."""
        self._process.signal(signal.SIGTERM)
        self._process.wait(PATIENCE_SECONDS + 10)
        lines = self._log.read_text().splitlines()
        try:
            return msgspec.json.decode(lines[-1], type=Count)
        except (IndexError, msgspec.DecodeError) as error:
            raise LabError(f"the stream of requests failed: {self._process.tail()}") from error


async def ask(address: str, port: int) -> str:
    """One request; the node that answered it, empty for none."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(REQUEST)
                answer = ANSWER.match(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""
    return answer[1].decode() if answer else ""


async def stream(address: str, port: int) -> Count:
    """Ask at the pace until SIGTERM; a request that comes late is made up for."""
    stop, count, running = asyncio.Event(), Count(), set[asyncio.Task[None]]()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def one() -> None:
        started = CLOCK.monotonic()
        node = await ask(address, port)
        count.slowest = max(count.slowest, CLOCK.monotonic() - started)
        if not node:
            return
        if not count.served:
            print(UNDER_WAY, flush=True)
        count.served[node] = count.served.get(node, 0) + 1

    started = due = CLOCK.monotonic()
    while not stop.is_set():
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        count.asked += 1
        due += PACE_SECONDS
        await asyncio.sleep(max(0.0, due - CLOCK.monotonic()))
    count.seconds = CLOCK.monotonic() - started
    await asyncio.gather(*running)
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask until SIGTERM, and print the count."""
    parser = argparse.ArgumentParser(prog="clarion.lab.stream")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    chosen = parser.parse_args(arguments)
    count = asyncio.run(stream(chosen.address, chosen.port))
    print(msgspec.json.encode(count).decode(), flush=True)


if __name__ == "__main__":
    main()
