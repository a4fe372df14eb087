"""Two programs, one lease: a leader that is stopped past its lease never acts beside the next."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clarion.testing.apiprocess import Kubectl

from .sides import Side

PROGRAM = Path(__file__).with_name("candidate_main.py")


@contextmanager
def candidate(api: Side, namespace: str, name: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, str(PROGRAM), str(api.kubeconfig), namespace, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acted(process: "subprocess.Popen[str]") -> float:
    """When the program next acts as the leader."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the candidate ended"
    return float(line)


def holder(kubectl: Kubectl, namespace: str) -> str:
    found: str = kubectl.get("lease", "leader", "-n", namespace)["spec"]["holderIdentity"]
    return found


def test_a_leader_stopped_past_its_lease_does_not_act_when_it_wakes_up(
    api: Side, kubectl: Kubectl, namespace: str
) -> None:
    with candidate(api, namespace, "one") as one:
        acted(one)
        with candidate(api, namespace, "two") as two:
            one.send_signal(signal.SIGSTOP)
            taken_over = acted(two)
            assert holder(kubectl, namespace) == "two"
            one.send_signal(signal.SIGCONT)
            # A leader again only when the other is gone: until then every act of `one` is older.
            assert acted(two) > taken_over
            two.kill()
            two.wait()
            last_of_two = max([taken_over, *map(float, rest(two))])
        acts: list[float] = []
        while not acts or acts[-1] < last_of_two:
            acts.append(acted(one))
        assert all(not taken_over <= act <= last_of_two for act in acts)
        assert holder(kubectl, namespace) == "one"


def rest(process: "subprocess.Popen[str]") -> list[str]:
    """What a program that ended still had to say, up to its last whole line."""
    assert process.stdout is not None
    return [line for line in process.stdout.read().splitlines(keepends=True) if line[-1:] == "\n"]
