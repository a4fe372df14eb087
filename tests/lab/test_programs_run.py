"""`clarion run`: one machine without a cluster, judged by FRR, arping, kubectl and the kernel."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from clarion.lab import observe
from clarion.lab.netns import Namespace
from clarion.lab.nodes import clarion
from clarion.lab.process import Process, wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig

from .conftest import Segment
from .programs_bed import metallb, service

pytestmark = pytest.mark.lab

HOST = "192.0.2.60"
PROGRAMS = ("apiserver", "controller", "speaker")


class Solo:
    """One machine on the shared segment, and `clarion run` on it."""

    def __init__(self, host: Namespace, client: Namespace, router: Router, folder: Path) -> None:
        self.host = host
        self.client = client
        self.router = router
        self.folder = folder
        self.data = folder / "data"

    def start(self) -> Process:
        argv = clarion("run", "--data-dir", str(self.data), "--node-name", "solo")
        return self.host.popen(
            [*argv, "--manifests", str(self.folder / "manifests")], log="run.log"
        )

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        environment = {"KUBECONFIG": str(self.data / "kubeconfig"), "HOME": str(self.folder)}
        done = self.host.run(["kubectl", *words], stdin=stdin, check=check, env=environment)
        return done.stdout

    def address(self, name: str) -> str:
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"

        def given() -> str:
            return self.kubectl("get", "service", name, "-o", path, check=False)

        return wait_until(given, 30, f"{name} has an address")

    def announced(self, addresses: set[str]) -> None:
        """Until FRR has exactly these routes and somebody answers for each of these addresses."""
        self.router.wait_routes(4, {f"{address}/32" for address in addresses}, timeout=30)
        mac = [self.host.mac("eth0")]
        for address in addresses:

            def answers(address: str = address) -> bool:
                return observe.answering(self.client, address) == mac

            wait_until(answers, 30, f"the machine answers for {address}")

    def silent(self, address: str) -> None:
        self.router.wait_routes(4, set())
        assert observe.answering(self.client, address) == []


@pytest.fixture
def solo(
    segment: Segment, configured: Callable[[str, RouterConfig], Router], tmp_path: Path
) -> Solo:
    neighbor = Neighbor(address=HOST, remote_as=64500, passive=True)
    router = configured(
        "frr", RouterConfig(asn=64512, router_id="192.0.2.1", neighbors=(neighbor,))
    )
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    objects = [
        metallb("BGPPeer", "frr", "v1beta2", myASN=64500, peerASN=64512, peerAddress="192.0.2.1"),
        metallb("IPAddressPool", "solo", addresses=["192.0.2.240/29"]),
        metallb("L2Advertisement", "solo"),
        metallb("BGPAdvertisement", "solo"),
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "everything",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "first"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [HOST], "conditions": {"ready": True}, "nodeName": "solo"}],
        },
    ]
    for number, obj in enumerate(objects):
        (manifests / f"{number}.yaml").write_text(json.dumps(obj))
    return Solo(segment.host("solo", 60), segment.host("client", 100), router, tmp_path)


def single(name: str) -> str:
    return json.dumps(service(name, ipFamilyPolicy="SingleStack"))


def endpoints(solo: Solo, name: str) -> None:
    """Let a service have the same endpoint as the first one."""
    found = json.loads(solo.kubectl("get", "endpointslice", "everything", "-o", "json"))
    labels = {"kubernetes.io/service-name": name}
    found["metadata"] = {"name": name, "namespace": "default", "labels": labels}
    solo.kubectl("apply", "-f", "-", stdin=json.dumps(found))


def test_one_machine_starts_stops_and_keeps_its_addresses(solo: Solo) -> None:
    running = solo.start()
    wait_until(lambda: solo.kubectl("get", "nodes", "-o", "name", check=False), 30, "a Node")
    for name in ("first", "second"):
        solo.kubectl("apply", "-f", "-", stdin=single(name))
        endpoints(solo, name)
    lost, kept = solo.address("first"), solo.address("second")
    solo.announced({lost, kept})
    # What stays is not the lowest address any more: a restart must remember it.
    solo.kubectl("delete", "service", "first")
    solo.announced({kept})

    assert running.stop(20) == 0, running.tail(40)
    solo.silent(kept)
    assert solo.host.pids() == []
    told = [line for line in running.tail(40).splitlines() if '"msg":"stopped"' in line]
    assert [json.loads(line)["program"] for line in told] == list(reversed(PROGRAMS))

    running = solo.start()
    solo.announced({kept})
    assert solo.address("second") == kept
    restarted(solo)

    os.kill(running.pid, signal.SIGKILL)
    wait_until(lambda: not solo.host.pids(), 20, "no child outlives the parent")
    solo.silent(kept)

    running = solo.start()
    solo.announced({kept})
    assert solo.address("second") == kept
    assert running.stop(20) == 0, running.tail(40)


def restarted(solo: Solo) -> None:
    """Each child that is killed is started again, and all goes on."""
    for program in PROGRAMS:
        (pid,) = children(solo, program)
        os.kill(pid, signal.SIGKILL)

        def other(program: str = program, pid: int = pid) -> bool:
            found = children(solo, program)
            return len(found) == 1 and found != [pid]

        wait_until(other, 20, f"another {program}")
        wait_until(lambda: solo.kubectl("get", "services", check=False), 20, "the API answers")
        solo.announced({solo.address("second")})


def children(solo: Solo, program: str) -> list[int]:
    """Process ids of `clarion PROGRAM` on the machine."""
    found = []
    for pid in solo.host.pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if "clarion.cli.main" in words and program in words:
            found.append(pid)
    return found
