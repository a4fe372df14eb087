"""Processes of a lab: started by us, known by pid and start time, ended only by those.

A pid alone may be another one's tomorrow; pid and start time (ticks since boot) together are not.
"""

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from clarion.base.errors import ClarionError
from clarion.edge.clock import SystemClock

T = TypeVar("T")
KILL_SECONDS = 5.0
CLOCK = SystemClock()


class LabError(ClarionError):
    """Something of the lab could not be made, or did not happen in time."""


class EndedError(ClarionError):
    """A program of the lab ended on its own: there is nothing to wait for any more."""


def start_ticks(pid: int) -> int | None:
    """Start time of a process in ticks since boot, or None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def end_pid(pid: int, ticks: int, *, grace: float = 3.0) -> None:
    """End the process with this pid and start time: SIGTERM, and SIGKILL after `grace` seconds."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The handle is taken before the look at the start time, so the pid cannot change hands now.
        if start_ticks(pid) != ticks:
            return
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], grace)[0]:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], KILL_SECONDS)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _group(leader: int) -> Iterator[int]:
    """The processes of a group, its leader among them."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == leader:
                yield int(entry.name)
        except ProcessLookupError:
            continue


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    timeout: float = 30.0,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; with `check`, a failure raises with what it wrote."""
    try:
        done = subprocess.run(
            list(argv),
            check=False,
            timeout=timeout,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"{argv[0]}: no such program", remedy="install the packages of the lab"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end within {timeout:g} s") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}: {said}")
    return done


class Process:
    """A running program that the lab started, leader of its own session."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = tuple(argv)
        self.log = log
        sink = (
            subprocess.DEVNULL
            if log is None
            else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        )
        try:
            self._popen = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
            )
        except FileNotFoundError as error:
            raise LabError(
                f"{argv[0]}: no such program", remedy="install the packages of the lab"
            ) from error
        finally:
            if log is not None:
                os.close(sink)
        self.pid = self._popen.pid
        self.ticks = start_ticks(self.pid) or 0

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program, if it still runs."""
        if self.alive:
            self._popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the program, if it still runs, and to its children."""
        if self.alive:
            os.killpg(self.pid, number)

    def require(self, what: str) -> None:
        """Raise EndedError with the end of the log when the program does not run any more."""
        if not self.alive:
            raise EndedError(f"{what} has ended ({self.returncode}):\n{self.tail(15)}")

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for the end and give the exit code."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.argv[0]} (pid {self.pid}): no end in {timeout:g} s") from error

    def stop(self, grace: float = 5.0) -> int:
        """SIGTERM, then SIGKILL after `grace` seconds; gives the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(grace)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, and gives the exit code."""
        self.signal(signal.SIGKILL)
        return self._popen.wait(10)

    def kill_group(self) -> int:
        """SIGKILL to the program and its children; all are gone when it gives the exit code."""
        members = [(pid, start_ticks(pid)) for pid in _group(self.pid)]
        self.signal_group(signal.SIGKILL)
        code = self._popen.wait(10)
        wait_until(
            lambda: all(start_ticks(pid) != ticks for pid, ticks in members if ticks),
            10,
            f"{self.argv[0]} (pid {self.pid}): its children are gone",
            interval=0.01,
        )
        return code

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log, for messages."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def pause(seconds: float) -> None:
    """Let time pass between two looks at something that has no event to wait for."""
    threading.Event().wait(seconds)


def wait_until(
    probe: Callable[[], T | None],
    timeout: float,
    what: str,
    *,
    interval: float = 0.1,
    seen: Callable[[], object] | None = None,
) -> T:
    """Poll `probe` until it gives something true, and give that.

    A probe may also raise AssertionError or LabError for "not yet". On time-out the message says
    what was awaited, how often it was asked, and what was seen last (`seen()` when given).
    """
    deadline = CLOCK.monotonic() + timeout
    asked = 0
    while True:
        asked += 1
        last: object
        try:
            value = probe()
        except (AssertionError, LabError) as error:
            last = error
        else:
            if value:
                return value
            last = value
        if CLOCK.monotonic() >= deadline:
            break
        pause(interval)
    shown = str(last) if seen is None else str(seen())
    raise LabError(f"not within {timeout:g} s ({asked} looks): {what}; seen last: {shown[-4000:]}")
