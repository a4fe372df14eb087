"""Child processes that belong together: kept running, and stopped in the reverse of their order.

A child shares the terminal's process group but ignores its interrupt, so that Ctrl-C reaches only
the supervisor and the children stop in order: first what announces, last what stores. If the
supervisor itself is killed, the kernel sends each child SIGTERM.
"""

import asyncio
import ctypes
import os
import signal
import sys

import msgspec

from clarion.base import limits
from clarion.base.errors import EXIT_USAGE
from clarion.edge.logs import Log

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Child(msgspec.Struct, frozen=True):
    """One program of the group: its name in messages and its command line.

    Attributes:
        stop_seconds: How long it may take to stop.
    """

    name: str
    command: tuple[str, ...]
    stop_seconds: float = limits.CHILD_STOP_SECONDS


def clarion_child(name: str, *arguments: str) -> Child:
    """A child that runs `clarion` with this interpreter."""
    return Child(name, (sys.executable, "-m", "clarion.cli.main", *arguments))


class Children:
    """Runs children until told to stop.

    Args:
        log: Where their ends are told.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._running: list[tuple[Child, asyncio.Task[None]]] = []
        self._broken: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def start(self, child: Child) -> None:
        """Start a child and keep it running."""
        self._running.append((child, asyncio.create_task(self._keep(child), name=child.name)))

    async def broken(self) -> str:
        """Wait until a child says that it cannot run as it is called; its name."""
        return await self._broken.get()

    async def stop(self) -> None:
        """Stop all children, the one started last first, each given time to finish cleanly."""
        while self._running:
            child, task = self._running.pop()
            task.cancel()
            await asyncio.wait([task])
            self._log.info("stopped", program=child.name)

    async def _keep(self, child: Child) -> None:
        """Run the child for ever, waiting longer after each early death."""
        pause = limits.CHILD_RESTART_FIRST_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self._run_once(child)
            if status == EXIT_USAGE:
                if not self._broken.full():
                    self._broken.put_nowait(child.name)
                return
            if loop.time() - started > limits.CHILD_STABLE_SECONDS:
                pause = limits.CHILD_RESTART_FIRST_SECONDS
            self._log.error(
                "a program ended; starting it again",
                program=child.name,
                status=_status_text(status),
                retry_seconds=pause,
            )
            await asyncio.sleep(pause)
            pause = min(2 * pause, limits.CHILD_RESTART_MAX_SECONDS)

    async def _run_once(self, child: Child) -> int:
        """Run the child to its end; on cancellation stop it first."""
        supervisor = os.getpid()
        process = await asyncio.create_subprocess_exec(
            *child.command, preexec_fn=lambda: _prepare_child(supervisor)
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                await self._end(child, process)

    async def _end(self, child: Child, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), child.stop_seconds)
        except TimeoutError:
            self._log.error(
                "a program did not stop; killing it",
                program=child.name,
                after_seconds=child.stop_seconds,
            )
            process.kill()
            await process.wait()


def _status_text(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def _prepare_child(supervisor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before the kernel was asked to tell
        os._exit(1)
