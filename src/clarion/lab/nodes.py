"""The programs under test, each in its host's namespace: API, controller, one speaker per node."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clarion.base import limits
from clarion.lab.netns import Namespace, Port
from clarion.lab.process import EndedError, LabError, Process, wait_until
from clarion.model.meta import METALLB_NAMESPACE

API_PORT = 6480
BACKEND_PORT = 8080
SYSTEM_NAMESPACE = METALLB_NAMESPACE


def clarion(*arguments: str) -> list[str]:
    """The command line of `clarion` with this interpreter."""
    return [sys.executable, "-m", "clarion.cli.main", *arguments]


class ApiHost:
    """The host of the embedded API and the controller, and the place where kubectl runs."""

    def __init__(self, namespace: Namespace, address: str) -> None:
        self.namespace = namespace
        self.address = address
        folder = namespace.lab.run_dir
        self.kubeconfig = folder / "kubeconfig"
        self.data_dir = folder / "api"
        self.api: Process | None = None
        self.controller: Process | None = None

    def start_api(self) -> None:
        """Start the embedded API on the segment's address; it writes the kubeconfig."""
        listen = f"{self.address}:{API_PORT}"
        argv = clarion("apiserver", "--data-dir", str(self.data_dir), "--listen", listen)
        argv += ["--write-kubeconfig", str(self.kubeconfig)]
        self.api = self.namespace.popen(argv, log="apiserver.log")

    def wait_api(self, timeout: float = 20.0) -> None:
        """Wait until kubectl gets an answer."""

        def ready() -> bool:
            raise_if_ended(self.api, "apiserver")
            return self.kubectl("get", "--raw", "/readyz", check=False).startswith("ok")

        wait_until(ready, timeout, "the API answers /readyz with ok", interval=0.1)

    def start_controller(self, *extra: str) -> None:
        """Start the controller."""
        argv = clarion("controller", "--kubeconfig", str(self.kubeconfig))
        argv += ["--namespace", SYSTEM_NAMESPACE, *extra]
        self.controller = self.namespace.popen(argv, log="controller.log")

    def environment(self) -> dict[str, str]:
        """Where kubectl finds the API; its caches stay in the lab's folder."""
        return {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.namespace.lab.run_dir)}

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl; gives what it prints, or with `check=False` also its refusal."""
        done = self.namespace.run(
            ["kubectl", *words], check=check, stdin=stdin, env=self.environment(), timeout=60
        )
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(self, *words: str) -> Any:
        """`kubectl get ... -o json`, decoded."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def items(self, *words: str) -> list[dict[str, Any]]:
        """The items of `kubectl get ... -o json`."""
        found: list[dict[str, Any]] = self.get(*words)["items"]
        return found

    def clarion(self, *words: str, check: bool = True) -> str:
        """Run a `clarion` command with this API's kubeconfig, here."""
        done = self.namespace.run(clarion(*words), check=check, env=self.environment(), timeout=60)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr


class Node:
    """A node: a speaker and a pod, in one namespace behind one cable (or two)."""

    def __init__(self, namespace: Namespace, ports: Sequence[Port], ipv4: str, ipv6: str) -> None:
        self.namespace = namespace
        self.name = namespace.name
        self.ports = list(ports)
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.speaker: Process | None = None
        self.backend: Process | None = None

    def start_speaker(self, kubeconfig: Path, *extra: str) -> None:
        """Start the speaker, which also registers this node."""
        argv = clarion("speaker", "--node-name", self.name, "--kubeconfig", str(kubeconfig))
        argv += ["--namespace", SYSTEM_NAMESPACE, "--register-node", *extra]
        self.speaker = self.namespace.popen(argv, log=f"{self.name}-speaker.log")

    def stop_speaker(self) -> int:
        """SIGTERM: a clean stop, with what it announced handed over or withdrawn; the exit code."""
        if self.speaker is None:
            raise LabError(f"{self.name}: no speaker runs")
        status = self.speaker.stop(limits.CHILD_STOP_SECONDS)
        self.speaker = None
        return status

    def start_backend(self) -> None:
        """Start this node's pod."""
        argv = [sys.executable, "-m", "clarion.lab.backend", "--node", self.name]
        argv += ["--port", str(BACKEND_PORT)]
        self.backend = self.namespace.popen(argv, log=f"{self.name}-backend.log")

    def power_off(self) -> None:
        """The node dies: nothing passes its cables any more, and every process of it is killed."""
        for port in self.ports:
            port.unplug()
        self.namespace.kill_all()
        self.speaker = self.backend = None

    def power_on(self, kubeconfig: Path, *extra: str) -> None:
        """Bring a dead node back."""
        for port in self.ports:
            port.plug()
        self.start_backend()
        self.start_speaker(kubeconfig, *extra)

    def check(self) -> None:
        """Raise when the speaker has ended on its own."""
        raise_if_ended(self.speaker, f"{self.name}: speaker")


def raise_if_ended(process: Process | None, what: str) -> None:
    """Raise when a program that must run was not started or has ended."""
    if process is None:
        raise EndedError(f"{what} was not started")
    process.require(what)
