"""frr-k8s itself takes what the back end `frr-k8s` asks for, and FRR reads what it makes of it.

The objects are the golden files, which tests/unit/test_decide_frrk8s.py holds equal to what is
built. Judges: frr-k8s, on the real API server, and the parser of Debian's FRR.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.lab.process import Process, run, wait_until
from clarion.testing.engine import Engine

from .deploy_kit import ROOT, frrk8s_definitions, missing, text_of

GOLDEN = ROOT / "tests" / "golden" / "frrk8s"
PROGRAM = ROOT / ".cache" / "bin" / "frr-k8s"
RELOADER = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); print('up', flush=True)"
EXPECTED = {
    "one": (
        "router bgp 64500",
        "neighbor 192.0.2.1 remote-as 64512",
        "network 203.0.113.9/32",
        "set large-community 64500:1:2 additive",
    ),
    "all": (
        "router bgp 64501 vrf red",
        "neighbor 192.0.2.2 update-source 192.0.2.10",
        "neighbor 192.0.2.2 local-as 64999",
        "neighbor 192.0.2.2 password in-clear",
        "neighbor 192.0.2.2 timers 30 90",
        "neighbor 192.0.2.2 ebgp-multihop",
        "neighbor 192.0.2.4 password lab-secret",
        "neighbor eth1 interface remote-as external",
        "set local-preference 300",
        "profile quick",
    ),
    "elsewhere": ("neighbor 192.0.2.4 password lab-secret",),
}


@pytest.fixture(scope="module")
def cluster(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A control plane with a node and the definitions of frr-k8s."""
    del engine  # asked for because it says why there is none
    if not PROGRAM.exists():
        missing("no frr-k8s: tools/judges builds it (Go)")
    with Engine(tmp_path_factory.mktemp("judge"), controllers=()) as made:
        made.install(*frrk8s_definitions())
        meta = {"name": "node-a", "labels": {"kubernetes.io/hostname": "host-a"}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": meta}
        made.kubectl("create", "-f", "-", stdin=text_of([node]))
        yield made


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_frr_k8s_makes_a_configuration_of_it(cluster: Engine, tmp_path: Path, case: str) -> None:
    kubectl, place = cluster.kubectl, f"frr-k8s-{case}"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "bgp"},
        "stringData": {"username": "-", "password": "lab-secret"},
    }
    kubectl("create", "namespace", place)
    kubectl("create", "-n", place, "-f", "-", stdin=text_of([secret]))
    text = (GOLDEN / f"{case}.yaml").read_text()
    kubectl("create", "-f", "-", stdin=text.replace("frr-k8s-system", place))
    made, pid, log = (tmp_path / name for name in ("frr.conf", "reloader.pid", "frr-k8s.log"))
    command = [sys.executable, "-c", f"{RELOADER}; signal.pause()"]
    reloader = Process(command, log=tmp_path / "reloader.log")
    wait_until(lambda: "up" in reloader.tail(), 20, "it bears to be told to reload")
    pid.write_text(str(reloader.pid))
    frrk8s = Process(
        [
            *(str(PROGRAM), "--node-name", "node-a", "--namespace", place, "--log-level", "debug"),
            *("--metrics-bind-address", "0", "--health-probe-bind-address", "0"),
        ],
        log=log,
        env={
            "KUBECONFIG": str(cluster.kubeconfig),
            "FRR_CONFIG_FILE": str(made),
            "FRR_RELOADER_PID_FILE": str(pid),
            "FRR_K8S_BGP_DEBOUNCE_TIMEOUT": "10",
            "PATH": "/usr/bin:/bin",
        },
    )
    try:
        wait_until(
            lambda: made.exists() and "router bgp" in made.read_text(),
            30,
            "frr-k8s has made a configuration",
            seen=lambda: frrk8s.tail(30),
        )
        found = made.read_text()
    finally:
        frrk8s.kill()
        reloader.kill()
    lacking = [line for line in EXPECTED[case] if line not in found]
    assert not lacking, found
    read(made)
    made.write_text(f"{found}\nrouter nonsense\n")
    with pytest.raises(AssertionError, match="nonsense"):
        read(made)


def read(configuration: Path) -> None:
    """Let FRR's parser read a file, without a running FRR."""
    vtysh = shutil.which("vtysh", path="/usr/bin:/usr/sbin")
    if vtysh is None:
        missing("no vtysh: tools/setup installs FRR")
    done = run([vtysh, "-C", "-f", str(configuration)], check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), done
