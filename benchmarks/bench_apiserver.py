"""Figures of the embedded API: durable writes, a long list, watch fan-out.

Run it as `python benchmarks/bench_apiserver.py`. The server is a process of its own on loopback;
its data lies in the directory given (default: a temporary one), whose disk decides what a durable
write costs.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from clarion.testing.apiprocess import ApiProcess

SERVICES = "/api/v1/namespaces/default/services"
MAPS = "/api/v1/namespaces/default/configmaps"
LIST_OBJECTS = 10_000
PAGE = 500


def service(number: int) -> dict[str, Any]:
    """One of many services."""
    return {
        "metadata": {"name": f"svc-{number:05}", "labels": {"app": f"app-{number % 100}"}},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "selector": {"app": f"app-{number}"},
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
        },
    }


async def write_services(client: aiohttp.ClientSession, count: int, writers: int) -> float:
    """Create services from several connections; give back the seconds that it took."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            async with client.post(SERVICES, json=service(number)) as answer:
                assert answer.status == 201, await answer.text()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(writers)))
    return time.perf_counter() - start


async def write_maps(client: aiohttp.ClientSession, count: int, writers: int, tag: str) -> float:
    """The same with a kind that needs no allocation."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            body = {"metadata": {"name": f"{tag}-{number}"}, "data": {"k": "v" * 500}}
            async with client.post(MAPS, json=body) as answer:
                assert answer.status == 201, await answer.text()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(writers)))
    return time.perf_counter() - start


async def read_whole(client: aiohttp.ClientSession, query: str) -> tuple[float, int]:
    """Seconds and bytes of one list."""
    start = time.perf_counter()
    async with client.get(f"{SERVICES}{query}") as answer:
        size = len(await answer.read())
    return time.perf_counter() - start, size


async def read_pages(client: aiohttp.ClientSession) -> float:
    """Seconds of a list in pages."""
    start = time.perf_counter()
    token = ""
    while True:
        async with client.get(f"{SERVICES}?limit={PAGE}&continue={token}") as answer:
            raw = await answer.read()
        # Only the end of the metadata is read here: the client's decoding is not what is measured.
        head = raw[: raw.index(b'"items"')]
        token = json.loads(head[:-1] + b"}")["metadata"].get("continue", "")
        if not token:
            return time.perf_counter() - start


async def fan_out(url: str, watchers: int, changes: int) -> tuple[float, list[float]]:
    """Seconds until all watchers saw all changes, and the delay of single changes in seconds."""
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as client:
        body = {"metadata": {"name": "fan"}, "data": {}}
        async with client.post(MAPS, json=body) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        query = f"?watch=1&fieldSelector=metadata.name%3Dfan&resourceVersion={version}"
        delays: list[float] = []
        ready = asyncio.Event()
        waiting = watchers

        async def watch() -> None:
            nonlocal waiting
            async with client.get(MAPS + query) as stream:
                waiting -= 1
                if not waiting:
                    ready.set()
                for _ in range(changes):
                    event = json.loads(await stream.content.readline())
                    delays.append(time.perf_counter() - float(event["object"]["data"]["at"]))

        tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
        await ready.wait()
        start = time.perf_counter()
        headers = {"Content-Type": "application/merge-patch+json"}
        for _ in range(changes):
            patch = {"data": {"at": repr(time.perf_counter())}}
            async with client.patch(f"{MAPS}/fan", json=patch, headers=headers) as answer:
                assert answer.status == 200
        await asyncio.gather(*tasks)
        return time.perf_counter() - start, delays


def quantiles(values: Sequence[float]) -> str:
    """Median and 99th percentile, in words."""
    ordered = sorted(values)
    p99 = ordered[int(len(ordered) * 0.99)]
    return f"p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"


def resident(pid: int) -> float:
    """Memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel tells no memory")


async def measure(server: ApiProcess) -> None:
    """Print all figures of a fresh server."""
    async with aiohttp.ClientSession(server.url) as client:
        print(f"memory, empty                         {resident(server.pid):8.0f} MB")
        for writers in (1, 8, 64):
            count = 300 if writers == 1 else 2000
            seconds = await write_maps(client, count, writers, f"w{writers}")
            print(f"durable creates, {writers:2} writers           {count / seconds:8.0f} /s")
        seconds = await write_services(client, LIST_OBJECTS, 32)
        print(f"durable Services, 32 writers          {LIST_OBJECTS / seconds:8.0f} /s")
        seconds, size = await read_whole(client, "")
        took = f"{seconds * 1e3:8.0f} ms, {size >> 20} MB"
        print(f"list {LIST_OBJECTS} Services, one answer      {took}")
        seconds = await read_pages(client)
        print(f"list {LIST_OBJECTS} Services, pages of {PAGE}     {seconds * 1e3:8.0f} ms")
        seconds, _ = await read_whole(client, "?labelSelector=app%3Dapp-7")
        print(f"list 100 of {LIST_OBJECTS} by label           {seconds * 1e3:8.1f} ms")
        print(f"memory, {LIST_OBJECTS} Services               {resident(server.pid):8.0f} MB")
    for watchers, changes in ((1, 300), (100, 100)):
        seconds, delays = await fan_out(server.url, watchers, changes)
        rate = watchers * changes / seconds
        took = f"{rate:8.0f} events/s, {quantiles(delays)}"
        print(f"{changes} changes to {watchers:3} watchers           {took}")
        async with aiohttp.ClientSession(server.url) as client, client.delete(f"{MAPS}/fan"):
            pass


def main() -> None:
    """Measure, and say what a restart takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where the data lies while it runs")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=arguments.directory) as directory,
        ApiProcess(Path(directory)) as server,
    ):
        asyncio.run(measure(server))
        server.kill()
        start = time.perf_counter()
        server.start()
        print(f"restart with 10,000 Services          {time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    main()
