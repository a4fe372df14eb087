"""The embedded API as a child process, and kubectl against it; for tests and benchmarks."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from clarion.lab.process import wait_until

KUBECTL_MINOR_MIN = 27
"""The oldest kubectl with all that the tests ask for (`patch --subresource`, `auth whoami`...)."""

_START_SECONDS = 20.0


class ApiProcess:
    """One server with its data directory; may be killed and started again on the same port."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self.log = directory / "server.log"
        self._flags = flags
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens (without TLS)."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "the server was started"
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it takes requests: then it writes its kubeconfig."""
        self.kubeconfig.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "clarion.cli.main", "apiserver"),
            *("--data-dir", str(self.directory / "data")),
            *("--listen", f"127.0.0.1:{self._port}"),
            *("--write-kubeconfig", str(self.kubeconfig)),
            *self._flags,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(
            self._is_up, _START_SECONDS, "the API writes its kubeconfig", seen=self.log.read_text
        )

    def _is_up(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the API has ended: {self.log.read_text()}")
        return self.kubeconfig.exists()

    def stop(self) -> int:
        """End it with SIGTERM; give back its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the API did not stop: {self.log.read_text()}") from None


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Kubectl:
    """The real kubectl with a kubeconfig and a home of its own."""

    def __init__(self, kubeconfig: Path, home: Path, *, program: Path | None = None) -> None:
        self._path = str(program or shutil.which("kubectl") or "kubectl")
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "HOME": str(home),
            "NO_COLOR": "1",
        }

    @staticmethod
    def installed() -> bool:
        """Whether there is a kubectl on this machine."""
        return shutil.which("kubectl") is not None

    def too_old(self) -> str:
        """Why it cannot judge everything: its version; empty if it can."""
        told = self.run("version", "--client").stdout
        minor = re.search(r"v1\.(\d+)\.", told)
        if minor and int(minor[1]) >= KUBECTL_MINOR_MIN:
            return ""
        return f"kubectl is older than 1.{KUBECTL_MINOR_MIN}: {told.strip()}"

    def run(
        self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever the end is."""
        return subprocess.run(
            [self._path, *arguments],
            input=stdin,
            env=self._environment | (env or {}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it; it must succeed. Give back what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def fails(self, *arguments: str, stdin: str | None = None) -> str:
        """Run it; it must fail. Give back what it said."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} succeeded: {done.stdout}"
        return done.stderr

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ... -o json` gives, decoded."""
        return json.loads(self("get", *arguments, "-o", "json"))

    def stream(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it and leave it running; the caller ends it."""
        return subprocess.Popen(
            [self._path, *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
