"""The engine itself: it is what it says, is stopped and started, and ends with the test run."""

import json
import os
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from clarion.lab.process import start_ticks, wait_until
from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import Engine, Request

# Starts an engine of its own, tells the pids of its programs, and waits for the end of the world.
PROGRAM = """
import sys, threading
from pathlib import Path
from clarion.testing.engine import Engine
with Engine(Path(sys.argv[1])) as engine:
    print(*engine.pids, flush=True)
    threading.Event().wait()
"""


def test_the_api_server_is_a_real_one_and_serves_our_kinds(kubectl: Kubectl) -> None:
    version = json.loads(kubectl("version", "-o", "json"))["serverVersion"]
    assert version["compiler"] == "gc"
    assert version["gitVersion"].startswith(f"v1.{version['minor']}.")
    assert "ipaddresspools.metallb.io" in kubectl("api-resources", "-o", "name").split()
    assert len(kubectl("api-resources", "-o", "name").split()) > 60


def test_service_accounts_may_do_what_their_roles_say_and_requests_are_told(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    account = f"system:serviceaccount:{namespace}:reader"
    config = engine.service_account_kubeconfig(namespace, "reader", tmp_path / "kubeconfig")
    reader = Kubectl(config, tmp_path)
    listing = ("get", "configmaps", "-n", namespace)
    assert f'User "{account}" cannot list resource "configmaps"' in reader.fails(*listing)
    kubectl("create", "role", "r", "-n", namespace, "--verb=list", "--resource=configmaps")
    kubectl(
        *("create", "rolebinding", "r", "-n", namespace),
        *("--role=r", f"--serviceaccount={namespace}:reader"),
    )
    wait_until(lambda: reader.run(*listing).returncode == 0, 10, "the role is in force")

    def asked() -> list[Request]:
        return [one for one in engine.requests(account) if one.resource == "configmaps"]

    # A request is told after it was answered.
    wait_until(lambda: asked()[-1].code == 200, 10, "the last request is told")
    assert {(one.verb, one.namespace) for one in asked()} == {("list", namespace)}
    assert (asked()[0].code, asked()[0].allowed) == (403, False)
    assert (asked()[-1].code, asked()[-1].allowed) == (200, True)


def test_a_deleted_namespace_goes_with_its_content(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "cm", "-n", namespace)
    kubectl("delete", "namespace", namespace, "--timeout=60s")
    assert "NotFound" in kubectl.fails("get", "namespace", namespace)


def test_the_api_server_stops_and_starts_and_knows_what_it_knew(
    engine: Engine, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("create", "configmap", "kept", "-n", namespace)
    engine.stop_api()
    assert "refused" in kubectl.fails("get", "configmaps", "-n", namespace)
    engine.start_api()
    kubectl("get", "configmap", "kept", "-n", namespace)


def test_a_paused_api_server_takes_connections_and_does_not_answer(engine: Engine) -> None:
    context = engine.ssl_context()
    engine.pause()
    try:
        with pytest.raises((TimeoutError, urllib.error.URLError), match="timed out"):
            urllib.request.urlopen(f"{engine.url}/livez", timeout=0.5, context=context)
    finally:
        engine.resume()
    with urllib.request.urlopen(f"{engine.url}/livez", timeout=30, context=context) as answer:
        assert answer.read() == b"ok"


def test_forgotten_versions_are_gone(engine: Engine, kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "cm", "-n", namespace)
    version = kubectl.get("configmap", "cm", "-n", namespace)["metadata"]["resourceVersion"]
    kubectl("label", "configmap", "cm", "-n", namespace, "a=b")
    path = f"/api/v1/namespaces/{namespace}/configmaps?watch=1&resourceVersion={version}"
    engine.forget_history()
    told = json.loads(kubectl("get", "--raw", f"{path}&timeoutSeconds=5"))
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)


def test_everything_ends_when_the_test_run_is_killed(engine: Engine, tmp_path: Path) -> None:
    assert engine.pids, "the programs are there, or the fixture would have skipped"
    with ExitStack() as stack:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        run = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(run.kill)
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 3
        handles = [os.pidfd_open(pid) for pid in pids]
        for handle in handles:
            stack.callback(os.close, handle)
        assert all(start_ticks(pid) for pid in pids)
        run.send_signal(signal.SIGKILL)
        for handle in handles:
            assert select.select([handle], [], [], 30)[0], "a program outlived the test run"
