"""`clarion lab` as a user runs it: up, exec, status, down; the demo in a pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from clarion.cli.lab import command
from clarion.lab.demo import Demo
from clarion.lab.netns import NETNS_DIR, default_base
from clarion.lab.process import wait_until
from clarion.lab.topology import StandardLab

from .conftest import TEST_PREFIX

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]


def clarion_lab(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "clarion.cli.main", "lab", "--name", name, *words]
    return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT, timeout=200)


def test_up_exec_status_down() -> None:
    name = f"{TEST_PREFIX}{os.getpid()}c"
    try:
        assert clarion_lab(name, "up").returncode == 0
        again = clarion_lab(name, "exec", "api", "kubectl", "apply", "-f", "examples/08-l2-and-bgp")
        assert "service/web-1 created" in again.stdout

        def told() -> str:
            shown = clarion_lab(name, "exec", "frr", "vtysh", "-c", "show bgp ipv4 unicast").stdout
            return shown if "192.0.2.225/32" in shown else ""

        assert "64500 i" in wait_until(told, 20, "the routes in FRR's own words")
        asked = clarion_lab(
            name, "exec", "client", "arping", "-c", "1", "-w", "1", "-I", "eth0", "192.0.2.224"
        )
        assert asked.returncode == 0, asked.stdout
        assert "2001:db8:1::224" in clarion_lab(name, "exec", "bird", "birdc", "show route").stdout
        status = clarion_lab(name, "status").stdout
        for fact in ("192.0.2.224/32", "node-a node-b node-c", "Established", "default/web-2"):
            assert fact in status
        twice = clarion_lab(name, "up")
        assert twice.returncode == 1
        assert "is there already" in twice.stderr
        unknown = clarion_lab(name, "exec", "node-z", "true")
        assert unknown.returncode == 1
        assert "node-a" in unknown.stderr
    finally:
        down = clarion_lab(name, "down")
    assert down.returncode == 0
    assert not list(NETNS_DIR.glob(f"clarion-{name}-*"))
    assert not (default_base() / name).exists()
    gone = clarion_lab(name, "status")
    assert gone.returncode == 1
    assert "clarion lab up" in gone.stderr


def test_the_demo_verifies_everything_it_shows() -> None:
    name = f"{TEST_PREFIX}{os.getpid()}d"
    done = clarion_lab(name, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything is verified" in done.stdout
    assert "FAIL" not in done.stdout
    assert not list(NETNS_DIR.glob(f"clarion-{name}-*"))


def test_a_demo_with_a_false_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = Demo(StandardLab.__new__(StandardLab), ROOT / "examples", lambda row: None)
    verdicts = [demo.verified]
    for verified in (True, False):
        demo.add("case", "FRR", "1x/32", "1x/32", verified=verified)
        verdicts.append(demo.verified)
    assert verdicts == [False, True, False]
    monkeypatch.setattr("clarion.lab.show.run_demo", lambda *_, **__: demo.verified)
    assert CliRunner().invoke(command, ["demo", "--once"]).exit_code == 1
