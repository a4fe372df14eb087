"""List, decode and hold 10,000 Services over HTTP: time, longest stall of the loop, memory.

The server is another process that sends pages made beforehand, so that only our side is measured.
Two stalls are shown: while the list is read, and after the objects were frozen out of the
collector's sight, as the programs do after their first sync.
"""

import asyncio
import gc
import json
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

from aiohttp import web

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.credentials import Identity, StaticCredentials
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import KubeConfig
from clarion.edge.reflector import Reflector
from clarion.model.core import Service

SERVICES = 10_000
CHANGES = 20_000


def service(number: int) -> dict[str, object]:
    """A Service as a cluster with a few controllers holds it: about 2.2 kB."""
    manager = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {f"f:field-{field}": {".": {}, "f:inner": {}} for field in range(24)},
    }
    return {
        "metadata": {
            "name": f"service-{number:05}",
            "namespace": f"team-{number % 50}",
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "resourceVersion": str(1000 + number),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": f"app-{number % 500}", "tier": "front"},
            "annotations": {"metallb.io/ip-allocated-from-pool": "gold", "note": "x" * 300},
            "managedFields": [manager],
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": f"10.96.{number >> 8}.{number & 255}",
            "clusterIPs": [f"10.96.{number >> 8}.{number & 255}"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "sessionAffinity": "None",
            "allocateLoadBalancerNodePorts": True,
            "selector": {"app": f"app-{number % 500}"},
            "ports": [
                {
                    "name": name,
                    "protocol": "TCP",
                    "port": port,
                    "targetPort": port,
                    "nodePort": 30000,
                }
                for name, port in (("http", 80), ("https", 443))
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": f"198.51.{number >> 8}.{number & 255}"}]}},
    }


def serve(ready: Connection) -> None:
    """The server process: pages by `limit` and `continue`, then a watch with many changes."""
    bodies = [json.dumps(service(number)) for number in range(SERVICES)]

    async def answer(request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            lines = [
                f'{{"type":"MODIFIED","object":{bodies[number % SERVICES]}}}\n'.replace(
                    f'"{1000 + number % SERVICES}"', f'"{100_000 + number}"'
                )
                for number in range(CHANGES)
            ]
            for start in range(0, CHANGES, 100):
                await response.write("".join(lines[start : start + 100]).encode())
            await asyncio.Event().wait()
            return response
        start = int(request.query.get("continue", "0"))
        end = start + int(request.query["limit"])
        token = str(end) if end < SERVICES else ""
        meta = json.dumps({"resourceVersion": "99999", "continue": token})
        text = f'{{"kind":"List","metadata":{meta},"items":[{",".join(bodies[start:end])}]}}'
        return web.Response(text=text, content_type="application/json")

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/services", answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


class Stalls:
    """How long the loop did not come round, by a task that asks for its turn all the time."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.0005)
            now = time.perf_counter()
            self.worst = max(self.worst, now - last - 0.0005)
            last = now

    def read(self) -> float:
        """The worst stall in milliseconds since the last call."""
        worst, self.worst = self.worst, 0.0
        return worst * 1000


def memory() -> float:
    """Peak resident memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(port: int) -> None:
    """Sync, follow the changes, print."""
    clock, entropy = SystemClock(), SystemEntropy()
    stalls = Stalls()
    meter = asyncio.create_task(stalls.run())
    start_memory = memory()
    changes = 0
    finished = asyncio.Event()

    def on_delta(*_delta: object) -> None:
        nonlocal changes
        changes += 1
        if changes == SERVICES + CHANGES:
            finished.set()

    config = KubeConfig(f"http://127.0.0.1:{port}", StaticCredentials(Identity()))
    async with KubeClient(config) as client:
        reflector = Reflector(client, Service, clock, entropy, on_delta=on_delta)
        began, cpu = time.perf_counter(), time.process_time()
        task = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        took, burnt = time.perf_counter() - began, time.process_time() - cpu
        synced_stall = stalls.read()
        gc.freeze()
        began, cpu = time.perf_counter(), time.process_time()
        await finished.wait()
        follow, follow_cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"sync of {SERVICES} services   {took:7.3f} s   cpu {burnt:6.3f} s")
        print(f"  longest stall of the loop {synced_stall:7.1f} ms")
        print(f"follow {CHANGES} changes      {follow:7.3f} s   cpu {follow_cpu:6.3f} s")
        print(f"  cost of a change          {follow_cpu / CHANGES * 1e6:7.1f} us")
        print(f"  longest stall of the loop {stalls.read():7.1f} ms")
        print(f"peak memory                 {memory():7.1f} MB   (before {start_memory:.1f} MB)")
        for done in (task, meter):
            done.cancel()
        await asyncio.wait([task, meter])


def main() -> None:
    """Start the server, measure, end it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        asyncio.run(measure(ours.recv()))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
