"""How long `clarion explain` and `clarion plan` of a live API take among many services.

Run it as `python benchmarks/bench_explain.py`. The embedded API is a process of its own on
loopback, filled with services that have addresses and endpoints; every command is a process too,
so that its start counts.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from clarion.testing.apiprocess import ApiProcess

WRITERS, NODES = 16, 50
CORE, NAMESPACE = "/api/v1", "metallb-system"
CONFIG = f"/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}"
PEERS = f"/apis/metallb.io/v1beta2/namespaces/{NAMESPACE}"


def configuration() -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and object of everything but the services."""

    def ours(
        kind: str, name: str, spec: dict[str, Any], version: str = "v1beta1"
    ) -> dict[str, Any]:
        api = f"metallb.io/{version}"
        return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}

    addresses = ["10.0.0.0/16"]
    yield f"{CONFIG}/ipaddresspools", ours("IPAddressPool", "pool", {"addresses": addresses})
    yield f"{CONFIG}/l2advertisements", ours("L2Advertisement", "l2", {})
    for name, length in (("single", 32), ("aggregate", 24)):
        spec: dict[str, Any] = {"aggregationLength": length}
        yield f"{CONFIG}/bgpadvertisements", ours("BGPAdvertisement", name, spec)
    for number in range(4):
        spec = {"myASN": 64500, "peerASN": 64501, "peerAddress": f"192.0.2.{number + 1}"}
        yield f"{PEERS}/bgppeers", ours("BGPPeer", f"peer-{number}", spec, "v1beta2")
    for number in range(NODES):
        yield f"{CORE}/nodes", {"metadata": {"name": f"node-{number:02}"}}


def address(number: int) -> str:
    """The address of a service."""
    return f"10.0.{number // 250}.{number % 250 + 1}"


async def fill(url: str, services: int) -> None:
    """Write everything."""
    async with aiohttp.ClientSession(url) as client:

        async def create(path: str, body: dict[str, Any]) -> None:
            async with client.post(path, json=body) as answer:
                assert answer.status == 201, await answer.text()

        for path, body in configuration():
            await create(path, body)
        numbers = iter(range(services))

        async def work() -> None:
            for number in numbers:
                name = f"svc-{number:05}"
                spec = {
                    "type": "LoadBalancer",
                    "allocateLoadBalancerNodePorts": False,
                    "ports": [{"port": 80}],
                }
                space = f"{CORE}/namespaces/default/services"
                await create(space, {"metadata": {"name": name}, "spec": spec})
                status = {"loadBalancer": {"ingress": [{"ip": address(number)}]}}
                merge = {"Content-Type": "application/merge-patch+json"}
                async with client.patch(
                    f"{space}/{name}/status", json={"status": status}, headers=merge
                ) as answer:
                    assert answer.status == 200, await answer.text()
                node = f"node-{number % NODES:02}"
                await create(
                    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
                    {
                        "metadata": {
                            "name": name,
                            "labels": {"kubernetes.io/service-name": name},
                        },
                        "addressType": "IPv4",
                        "endpoints": [{"addresses": ["10.244.0.1"], "nodeName": node}],
                    },
                )

        await asyncio.gather(*(work() for _ in range(WRITERS)))


def timed(label: str, kubeconfig: Path, runs: int, *arguments: str) -> None:
    """Run a command several times and print the median and the worst."""
    command = [sys.executable, "-m", "clarion.cli.main", *arguments]
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--kubeconfig", str(kubeconfig)], capture_output=True, text=True, check=False
        )
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    print(f"{label:40} median {statistics.median(seconds):6.2f} s   worst {max(seconds):6.2f} s")


def main() -> None:
    """Fill an API, then ask it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ApiProcess(Path(folder)) as api:
        start = time.perf_counter()
        asyncio.run(fill(api.url, options.services))
        print(f"{options.services} services written in {time.perf_counter() - start:.1f} s")
        middle = options.services // 2
        service = f"default/svc-{middle:05}"
        runs = options.runs
        timed("explain service", api.kubeconfig, runs, "explain", "service", service)
        timed("explain address", api.kubeconfig, runs, "explain", "address", address(middle))
        timed("explain pool", api.kubeconfig, runs, "explain", "pool", "pool")
        timed("explain peer", api.kubeconfig, runs, "explain", "peer", "peer-0")
        timed("explain node", api.kubeconfig, runs, "explain", "node", "node-00")
        timed("plan of one node", api.kubeconfig, 1, "plan", "--node", "node-00")
        timed("plan", api.kubeconfig, 1, "plan")


if __name__ == "__main__":
    main()
