"""Controllers as processes on the real API server, for the tests of this folder."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

from clarion.lab.process import Process, wait_until
from clarion.model.meta import METALLB_NAMESPACE
from clarion.testing.apiprocess import free_port
from clarion.testing.engine import Engine, find_programs

SYSTEM = METALLB_NAMESPACE
ALONE = "--no-leader-elect"
"""Of one controller at a time; else each kill costs the time until its Lease ends."""


def need_engine() -> None:
    """Skip with the reason where there is no engine; in CI that is a failure."""
    _, why = find_programs()
    if why and os.environ.get("CI"):
        pytest.fail(f"{why}; CI must not skip the real API server")
    if why:
        pytest.skip(why)


class ControllerProcess:
    """One replica; may be stopped, killed, and started again.

    Args:
        engine: The control plane.
        directory: Where its log goes.
        name: Name of the log.
        flags: More flags.
    """

    def __init__(self, engine: Engine, directory: Path, name: str, *flags: str) -> None:
        self.log = directory / f"{name}.log"
        self._http = free_port()
        self._command = [
            *(sys.executable, "-m", "clarion.cli.main", "controller"),
            *("--kubeconfig", str(engine.kubeconfig), "--namespace", SYSTEM),
            *("--listen-http", f"127.0.0.1:{self._http}"),
            *flags,
        ]
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()

    @property
    def process(self) -> Process:
        """The running program."""
        assert self._process is not None
        return self._process

    def start(self, *, ready: bool = True) -> None:
        """Start it and, unless told otherwise, wait until it is ready."""
        self._process = Process(self._command, log=self.log)
        if ready:
            wait_until(self.ready, 30, f"{self.log.stem} is ready", seen=self.process.tail)

    def stop(self) -> None:
        """End it as a Pod is ended."""
        assert self.process.stop() == 0, self.log.read_text()

    def ready(self) -> bool:
        """Whether it says so."""
        self.process.require(self.log.stem)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, path: str) -> str:
        """What one of its pages says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def snapshot(self) -> Any:
        """What it shows for debugging."""
        return json.loads(self.ask("/debug/snapshot"))

    @property
    def leads(self) -> bool:
        """Whether it says that it leads, in its metrics."""
        return "clarion_leader_bool 1.0" in self.ask("/metrics")
