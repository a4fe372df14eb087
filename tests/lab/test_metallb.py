"""MetalLB's own programs in the lab: Clarion takes their place, and they take it back.

They run on the embedded API, in the namespaces of the nodes. arping is the judge of who answers.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clarion.base.addr import parse_address
from clarion.decide.elect import rank
from clarion.lab.netns import Lab, sweep
from clarion.lab.nodes import clarion
from clarion.lab.process import Process, wait_until
from clarion.lab.topology import NODES, StandardLab

from .conftest import TEST_PREFIX
from .programs_bed import SYSTEM, Bed, metallb, service

pytestmark = pytest.mark.lab

PROGRAMS = Path(__file__).resolve().parents[2] / ".cache" / "bin" / "metallb"
VIP = "203.0.113.64"
OWNER, *OTHERS = rank(parse_address(VIP), dict.fromkeys(NODES, 0))
LABELS = {"app": "metallb"}
MEMBERS = "app=metallb,component=speaker"


class MetalLB:
    """The controller and a speaker per node, with the Pods that they look themselves up by."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.controller: Process
        self.speakers: dict[str, Process] = {}
        self._key = bed.lab.lab.run_dir / "memberlist"
        self._key.mkdir(exist_ok=True)
        (self._key / "secretkey").write_text("gq3vYb0mZ6n1T8xkLr2cWw")

    def start(self) -> None:
        """Start all, and wait until they answer from the node that they elect."""
        pods = [self._pod("controller", NODES[0]), *(self._pod("speaker", n) for n in NODES)]
        self.bed.apply(*pods)
        for pod in pods:
            self.bed.kubectl("replace", "--subresource=status", "-f", "-", stdin=json.dumps(pod))
        self.controller = self._popen("controller", NODES[0], "--webhook-mode=disabled")
        for name in NODES:
            address = self.bed.lab.nodes[name].ipv4
            flags = ["--node-name", name, "--ml-bindaddr", address, "--ml-labels", MEMBERS]
            self.speakers[name] = self._popen("speaker", name, *flags)
        self.bed.wait_owner(VIP, OWNER)
        self.check()

    def stop_controller(self) -> None:
        self.controller.stop()
        self._forget("controller", NODES[0])

    def stop_speaker(self, node: str) -> None:
        """End one speaker and its Pod, as a kubelet does."""
        self.speakers.pop(node).stop()
        self._forget("speaker", node)

    def stop(self) -> None:
        self.stop_controller()
        for node in tuple(self.speakers):
            self.stop_speaker(node)

    def check(self) -> None:
        for process in (self.controller, *self.speakers.values()):
            process.require("a program of MetalLB")

    def _popen(self, program: str, node: str, *flags: str) -> Process:
        lab = self.bed.lab
        host = lab.api.namespace if program == "controller" else lab.nodes[node].namespace
        kubeconfig = ["--kubeconfig", str(lab.api.kubeconfig), "--namespace", SYSTEM]
        environment = {
            "METALLB_BGP_TYPE": "native",
            "METALLB_POD_NAME": f"{program}-{node}",
            "METALLB_ML_SECRET_KEY_PATH": str(self._key),
        }
        argv = [str(PROGRAMS / program), *kubeconfig, "--log-level=info", *flags]
        return host.popen(argv, log=f"metallb-{program}-{node}.log", env=environment)

    def _pod(self, component: str, node: str) -> dict[str, Any]:
        address = self.bed.lab.nodes[node].ipv4
        labels = {**LABELS, "component": component}
        image = f"registry.example.com/metallb/{component}:v0.16.1"
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{component}-{node}", "namespace": SYSTEM, "labels": labels},
            "spec": {"nodeName": node, "containers": [{"name": component, "image": image}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        }

    def _forget(self, component: str, node: str) -> None:
        self.bed.kubectl("delete", "pod", f"{component}-{node}", "-n", SYSTEM)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    if not (PROGRAMS / "speaker").exists():
        why = "no programs of MetalLB: tools/judges builds them (Go)"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}m") as lab:
        made = StandardLab(lab)
        made.up()
        stop_clarion(made)
        bed = Bed(made)
        web = service("web", ipFamilyPolicy="SingleStack", ipFamilies=["IPv4"])
        pool = metallb("IPAddressPool", "moved", addresses=[f"{VIP}/28"])
        bed.apply(pool, metallb("L2Advertisement", "moved"), web)
        yield bed


@pytest.fixture
def running(bed: Bed) -> Iterator[MetalLB]:
    """MetalLB on every node, and nothing of Clarion."""
    made = MetalLB(bed)
    made.start()
    yield made
    if made.controller.alive:
        made.stop_controller()
    for node in tuple(made.speakers):
        made.stop_speaker(node)
    stop_clarion(bed.lab)


def start_clarion(lab: StandardLab) -> None:
    lab.api.start_controller()
    for node in lab.nodes.values():
        node.start_speaker(lab.api.kubeconfig)


def stop_clarion(lab: StandardLab) -> None:
    for node in lab.nodes.values():
        if node.speaker is not None:
            node.stop_speaker()
    if lab.api.controller is not None and lab.api.controller.alive:
        lab.api.controller.stop()


def statuses(bed: Bed) -> list[tuple[str, str, str]]:
    """Node, service and kind of owner of every ServiceL2Status."""
    return [
        (
            item.get("status", {}).get("node", ""),
            item.get("status", {}).get("serviceName", ""),
            item["metadata"]["ownerReferences"][0]["kind"],
        )
        for item in bed.lab.api.items("servicel2statuses", "-n", SYSTEM)
    ]


def verdict(bed: Bed, code: str) -> tuple[str, str]:
    """What the doctor says, asked from a machine of the segment that is no node."""
    done = bed.lab.client.run(
        clarion("doctor", "-o", "json"), check=False, env=bed.lab.api.environment()
    )
    found = {item["code"]: item for item in json.loads(done.stdout)["checks"]}
    return found[code]["verdict"], found[code]["says"]


def test_all_at_once_and_back_the_same_node_answers_for_the_same_address(
    running: MetalLB, bed: Bed
) -> None:
    wait_until(lambda: statuses(bed) == [(OWNER, "web", "Pod")], 20, "MetalLB tells it")
    assert verdict(bed, "second-announcer")[0] == "failed"
    running.stop()
    start_clarion(bed.lab)
    bed.wait_owner(VIP, OWNER)
    wait_until(lambda: statuses(bed) == [(OWNER, "web", "Node")], 20, "Clarion tells it, once")
    assert bed.ingress("web") == [VIP]
    assert verdict(bed, "second-announcer")[0] == "ok"
    assert verdict(bed, "one-answer")[0] == "ok"
    stop_clarion(bed.lab)
    running.start()
    wait_until(lambda: statuses(bed) == [(OWNER, "web", "Pod")], 20, "MetalLB tells it, once")
    assert bed.ingress("web") == [VIP]
    running.check()


def test_node_by_node_two_stations_answer_and_the_doctor_names_both(
    running: MetalLB, bed: Bed
) -> None:
    running.stop_speaker(OWNER)
    bed.lab.nodes[OWNER].start_speaker(bed.lab.api.kubeconfig)
    both = {OWNER, OTHERS[0]}
    wait_until(lambda: set(bed.lab.owners(VIP)) == both, 30, "one owner of each kind")
    result, says = verdict(bed, "one-answer")
    assert result == "failed"
    assert all(f"({name})" in says for name in both)


def test_pool_by_pool_one_station_answers_at_any_time(running: MetalLB, bed: Bed) -> None:
    def select(kind: str) -> None:
        selector = [{"matchLabels": {"announcer": kind}}]
        bed.patch("l2advertisement/moved", {"spec": {"nodeSelectors": selector}})

    for name in NODES:
        kind = "clarion" if name == OWNER else "metallb"
        bed.kubectl("label", "node", name, f"announcer={kind}", "--overwrite")
    select("metallb")
    try:
        bed.wait_owner(VIP, OTHERS[0])
        running.stop_controller()
        running.stop_speaker(OWNER)
        bed.lab.nodes[OWNER].start_speaker(bed.lab.api.kubeconfig)
        wait_until(lambda: OWNER in bed.leases(), 20, "Clarion lives")
        assert verdict(bed, "one-answer")[0] == "ok"
        assert bed.lab.owners(VIP) == [OTHERS[0]]
        select("clarion")
        bed.wait_owner(VIP, OWNER)
        assert verdict(bed, "one-answer")[0] == "ok"
        assert bed.lab.owners(VIP) == [OWNER]
    finally:
        bed.patch("l2advertisement/moved", {"spec": {"nodeSelectors": None}})
