"""A speaker killed again and again: at the end its statuses and the router are true."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clarion.lab.netns import Lab, cable, sweep
from clarion.lab.process import Process, wait_until
from clarion.lab.routers import Bird, Neighbor, RouterConfig
from clarion.testing.apiprocess import free_port
from clarion.testing.engine import Engine
from clarion.testing.figures import inside

from .controller_kit import SYSTEM, ControllerProcess, need_engine
from .deploy_kit import missing
from .fault_kit import POOLS, SERVICES, SETTLE_SECONDS, Api, addresses_of, pool, service, settle

LAB = "pytest-faults-"
NODE, NODE_V6, BIRD_V6 = "node-a", "2001:db8:2::b", "2001:db8:2::2"
CONFIG = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}"
PEERS = f"/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
TOLD: dict[str, dict[str, Any]] = {
    "servicel2statuses": {"interfaces": [{"name": "eth0"}]},
    "servicebgpstatuses": {"peers": ["bird"]},
}


class Bed(msgspec.Struct):
    """A control plane in a node's network, and a router on the other end of its cable."""

    engine: Engine
    api: Api
    bird: Bird


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    need_engine()
    if os.geteuid() != 0:
        missing("needs root: the speaker runs in a network namespace")
    sweep(prefix=LAB)
    with Lab(f"{LAB}{os.getpid()}") as lab:
        node, peer = lab.namespace("node"), lab.namespace("peer")
        cable(node, "eth0", peer, "eth0")
        node.add_address("eth0", f"{NODE_V6}/64")
        peer.add_address("eth0", f"{BIRD_V6}/64")
        neighbor = Neighbor(address=NODE_V6, remote_as=64500, passive=True)
        router = RouterConfig(asn=64512, router_id="192.0.2.2", neighbors=(neighbor,))
        bird = Bird(peer, router)
        bird.start()
        with inside(node), Engine(tmp_path, controllers=()) as engine:
            engine.install()
            engine.kubectl("create", "namespace", SYSTEM)
            yield Bed(engine, Api(engine), bird)


def ours(kind: str, name: str, version: str = "v1beta1", **spec: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": meta, "spec": spec}


def endpoints(name: str, *, ready: bool = True) -> dict[str, Any]:
    """One endpoint behind a service."""
    meta = {
        "name": name,
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": name},
    }
    there = {"addresses": ["2001:db8:9::1"], "nodeName": NODE, "conditions": {"ready": ready}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv6",
        "metadata": meta,
        "endpoints": [there],
    }


def told(api: Api, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """What the objects of a kind say, sorted by service."""
    return sorted(
        (
            item["metadata"]["labels"]["metallb.io/service-name"],
            item.get("status", {}),
        )
        for item in api.items(f"{CONFIG}/{kind}").values()
    )


def untold(bed: Bed) -> list[str]:
    """Where statuses and router differ from what the objects say; one line for each."""
    ready = {
        item["metadata"]["labels"]["kubernetes.io/service-name"]
        for item in bed.api.items(SLICES).values()
        if item["endpoints"][0]["conditions"]["ready"]
        and "kubernetes.io/service-name" in item["metadata"].get("labels", {})
    }
    announced = {
        name: addresses_of(item)
        for name, item in bed.api.services().items()
        if name in ready and addresses_of(item)
    }
    wrong = []
    for kind, content in TOLD.items():
        common = {"node": NODE, "serviceNamespace": "default"} | content
        truth = [(name, common | {"serviceName": name}) for name in sorted(announced)]
        found = told(bed.api, kind)
        wrong += [f"{kind}: missing: {one}" for one in truth if one not in found]
        wrong += [f"{kind}: not true: {one}" for one in found if one not in truth]
        if len(found) != len(truth):
            wrong.append(f"{kind}: {len(found)} objects, {len(truth)} services are announced")
    routes = {f"{address}/128" for found in announced.values() for address in found}
    known = set(bed.bird.bgp_routes(6))
    if routes != known:
        wrong.append(f"routes: missing {sorted(routes - known)}, not true {sorted(known - routes)}")
    return wrong


def test_a_speaker_killed_again_and_again(bed: Bed, tmp_path: Path) -> None:
    """Services and endpoints come and go in each of its lives, and while it is dead."""
    api = bed.api
    api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    api.create(POOLS, pool(256))
    api.create(f"{CONFIG}/l2advertisements", ours("L2Advertisement", "all", interfaces=["eth0"]))
    api.create(f"{CONFIG}/bgpadvertisements", ours("BGPAdvertisement", "all"))
    spec = {"myASN": 64500, "peerASN": 64512, "peerAddress": BIRD_V6}
    api.create(PEERS, ours("BGPPeer", "bird", "v1beta2", **spec))
    speaker = [
        *(sys.executable, "-m", "clarion.cli.main", "speaker", "--node-name", NODE),
        *("--kubeconfig", str(bed.engine.kubeconfig), "--namespace", SYSTEM),
        *("--listen-http", f"127.0.0.1:{free_port()}"),
    ]
    log = tmp_path / "speaker.log"

    def change(life: int) -> None:
        names = [f"web-{life}-{number}" for number in range(12)]
        api.create(SLICES, *map(endpoints, names))
        api.create(SERVICES, *map(service, names))
        if life:
            last = [f"web-{life - 1}-{number}" for number in range(12)]
            api.delete(SERVICES, last[:4])
            for name in last[4:8]:
                api.ask("PATCH", f"{SLICES}/{name}", endpoints(name, ready=False))

    def look() -> list[list[tuple[str, dict[str, Any]]]]:
        return [told(api, kind) for kind in TOLD]

    lives = 5
    with ControllerProcess(bed.engine, tmp_path, "controller", "--no-leader-elect"):
        for life in range(lives):
            before, program = look(), Process(speaker, log=log)
            change(2 * life)
            wait_until(
                lambda before=before: look() != before,  # type: ignore[misc]
                SETTLE_SECONDS,
                "statuses change",
                seen=program.tail,
            )
            program.kill()
            change(2 * life + 1)
        program = Process(speaker, log=log)
        settle(bed.engine, 256)
        wait_until(
            lambda: not untold(bed),
            SETTLE_SECONDS,
            "statuses and router are true",
            seen=lambda: "\n".join(untold(bed)),
        )
        assert len(bed.bird.bgp_routes(6)) > lives, "something is announced"
        assert program.stop() == 0, program.tail()
