"""`clarion run`: one machine without a cluster, judged by FRR, arping, kubectl and the kernel."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


BROKEN = """apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: broken
spec: {addresses: [192.0.2.1/32]}
"""
MISSPELT = """apiVersion: metallb.io/v1beta1
kind: IPAddresPool
metadata: {name: misspelt, namespace: metallb-system}
"""


def test_manifests_that_cannot_be_used_are_told_of_and_the_others_take_effect(solo: Solo) -> None:
    folder = solo.folder / "manifests"
    (folder / "broken.yaml").write_text(BROKEN)
    (folder / "misspelt.yaml").write_text(MISSPELT)
    overlap = metallb("IPAddressPool", "twin", addresses=["192.0.2.240/29"])
    (folder / "twin.yaml").write_text(json.dumps(overlap))
    running = solo.start()

    def state() -> dict[str, Any]:
        words = ("get", "-n", "metallb-system", "configurationstates", "run", "-o", "json")
        told = solo.kubectl(*words, check=False)
        return json.loads(told).get("status", {}) if told else {}

    found = wait_until(state, 30, "the state of the manifests")
    assert found["result"] == "Invalid"
    for place in (
        "broken.yaml:4:5:",
        "misspelt.yaml:2:7:",
        "twin.yaml:1:1: IPAddressPool twin: refused: ",
    ):
        assert place in found["errorSummary"]
    assert "did you mean IPAddressPool?" in found["errorSummary"]
    shown = solo.host.run(
        clarion("status", "--kubeconfig", str(solo.data / "kubeconfig")), check=False
    ).stdout
    assert "misspelt.yaml:2:7:" in shown
    said = running.tail(80)
    assert "misspelt.yaml:2:7: error [UnknownKind]" in said
    assert "→ did you mean IPAddressPool?" in said

    solo.kubectl("apply", "-f", "-", stdin=single("first"))
    solo.announced({solo.address("first")})
    assert running.stop(20) == 0, running.tail(40)

    for name in ("broken", "misspelt", "twin"):
        (folder / f"{name}.yaml").unlink()
    running = solo.start()
    wait_until(lambda: state().get("result") == "Valid", 30, "all manifests are applied")
    assert running.stop(20) == 0, running.tail(40)


def test_ups_and_downs_of_a_session_are_told_on_the_peer(solo: Solo) -> None:
    running = solo.start()

    def shown() -> str:
        return solo.kubectl("describe", "-n", "metallb-system", "bgppeer", "frr", check=False)

    def told(words: str) -> None:
        """`kubectl describe` shows an event with these words."""
        wait_until(lambda: words in shown(), 30, words, seen=shown)

    told('the session of node "solo" is established')
    asn, router_id = solo.router.config.asn, solo.router.config.router_id
    solo.router.configure(RouterConfig(asn=asn, router_id=router_id))
    told('node "solo" lost its session: the peer sent Cease/')
    assert running.stop(20) == 0, running.tail(40)
