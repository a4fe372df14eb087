"""`examples/10-one-machine` as its README says, judged by curl and arping on another machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.lab import observe
from clarion.lab.netns import Lab, Namespace
from clarion.lab.nodes import clarion
from clarion.lab.process import LabError, Process, wait_until

pytestmark = pytest.mark.lab

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "10-one-machine"
ADDRESS = "192.0.2.240"


class Machine:
    """A plain machine that runs a web server and Clarion, and another one beside it."""

    def __init__(self, lab: Lab) -> None:
        switch = lab.switch("swone")
        self.host: Namespace = lab.namespace("one")
        self.client: Namespace = lab.namespace("beside")
        switch.attach(self.host, addresses=["192.0.2.20/24"])
        switch.attach(self.client, addresses=["192.0.2.21/24"])
        self.data = lab.run_dir / "one"
        argv = [sys.executable, "-m", "clarion.lab.backend", "--node", "one", "--port", "8080"]
        self.host.popen(argv, log="one-backend.log")
        self.host.run(["nft", "-f", str(EXAMPLE / "redirect.nft")])
        self.program: Process | None = None

    def start(self) -> None:
        words = ("run", "--data-dir", str(self.data), "--manifests", str(EXAMPLE))
        self.program = self.host.popen(clarion(*words, "--node-name", "one"), log="one-run.log")

    def kubectl(self, *words: str) -> str:
        kubeconfig = str(self.data / "kubeconfig")
        environment = {"KUBECONFIG": kubeconfig, "HOME": str(self.data)}
        return self.host.run(["kubectl", *words], env=environment, timeout=60).stdout

    def page(self) -> str:
        url = f"http://{ADDRESS}/"
        return self.client.run(["curl", "-s", "-m", "1", url], check=False).stdout

    def answered(self) -> bool:
        return bool(observe.answering(self.client, ADDRESS))

    def set_ready(self, ready: str) -> None:
        patch = f'[{{"op":"replace","path":"/endpoints/0/conditions/ready","value":{ready}}}]'
        self.kubectl("patch", "endpointslice", "web-1", "--type=json", "-p", patch)


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Machine]:
    made = Machine(lab)
    made.start()
    yield made
    assert made.program is not None
    made.program.stop(20)


def test_the_server_is_reached_at_its_address(machine: Machine) -> None:
    wait_until(lambda: "served by one" in machine.page(), 30, f"curl http://{ADDRESS}/ works")


def test_an_endpoint_that_is_not_ready_withdraws_the_address(machine: Machine) -> None:
    wait_until(machine.answered, 30, "the address answers")
    machine.set_ready("false")
    wait_until(lambda: not machine.answered(), 10, "nobody answers for it")
    why = machine.host.run(
        clarion("explain", "service", "default/web", "--kubeconfig", f"{machine.data}/kubeconfig"),
        check=False,
    ).stdout
    assert "none of its 1 endpoints can serve" in why
    machine.set_ready("true")
    wait_until(machine.answered, 10, "the address answers again")


def test_a_restart_keeps_the_address(machine: Machine) -> None:
    assert machine.program is not None
    before = machine.kubectl("get", "service", "web", "-o", "jsonpath={.status}{.spec.clusterIP}")
    assert ADDRESS in before
    assert machine.program.stop(20) == 0
    with pytest.raises(LabError):
        machine.kubectl("get", "service", "web")
    assert not machine.answered()
    machine.start()
    wait_until(machine.answered, 30, "the address answers after the restart")
    after = machine.kubectl("get", "service", "web", "-o", "jsonpath={.status}{.spec.clusterIP}")
    assert after == before
