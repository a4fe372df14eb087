"""Names of processes: unique, and telling of those that ended."""

import os
import signal
import subprocess
import sys

import pytest

from clarion.edge.procid import has_ended, own_identity

SHOW = "from clarion.edge.procid import own_identity; print(own_identity(), flush=True); input()"


def test_a_process_that_ended_is_known_to_have_and_one_that_is_stopped_has_not() -> None:
    command = [sys.executable, "-c", SHOW]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        identity = process.stdout.readline().decode().strip()
        assert not has_ended(identity)
        process.send_signal(signal.SIGSTOP)
        assert not has_ended(identity)
        process.kill()
        process.wait()
        assert has_ended(identity)


def test_the_process_id_of_another_is_not_its_name() -> None:
    identity = own_identity()
    assert not has_ended(identity)
    host, world, pid, ticks = identity.rsplit("_", 3)
    assert pid == str(os.getpid())
    assert has_ended(f"{host}_{world}_{pid}_{int(ticks) - 1}"), "an earlier one of the same id"
    assert has_ended(f"renamed-host_{world}_{pid}_1")


@pytest.mark.parametrize("other", ["", "pod-7c9", "a_b_c_d", "host_other-boot-1_1_1", "_1_1"])
def test_nothing_is_known_of_processes_elsewhere(other: str) -> None:
    assert not has_ended(other)
    *_, world, _, _ = own_identity().rsplit("_", 3)
    assert not has_ended(f"host_{world}x_999999999_1")
