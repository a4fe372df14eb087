"""Child processes that belong together: kept running, and stopped in the reverse of their order.

A child shares the terminal's process group but ignores its interrupt, so that Ctrl-C reaches only
the supervisor and the children stop in order: first what announces, last what stores. If the
supervisor itself is killed, the kernel sends each child SIGTERM.
"""

import asyncio
import ctypes
import logging
import signal
import sys
from collections.abc import Sequence

import msgspec

from clarion.base import limits

_log = logging.getLogger(__name__)
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Child(msgspec.Struct, frozen=True):
    """One program of the group: its name in messages and the arguments after `clarion`."""

    name: str
    arguments: tuple[str, ...]


class Children:
    """Runs children until told to stop."""

    def __init__(self) -> None:
        self._running: list[tuple[Child, asyncio.Task[None]]] = []

    def start(self, child: Child) -> None:
        """Start a child and keep it running."""
        self._running.append((child, asyncio.create_task(_keep(child), name=child.name)))

    async def stop(self) -> None:
        """Stop all children, the one started last first, each given time to finish cleanly."""
        for _, task in reversed(self._running):
            task.cancel()
            await asyncio.wait([task])
        self._running.clear()


def clarion_command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs `clarion` with this interpreter."""
    return [sys.executable, "-m", "clarion.cli.main", *arguments]


async def _keep(child: Child) -> None:
    """Run the child for ever, waiting longer after each early death."""
    pause = limits.CHILD_RESTART_FIRST_SECONDS
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        status = await _run_once(child)
        if loop.time() - started > limits.CHILD_STABLE_SECONDS:
            pause = limits.CHILD_RESTART_FIRST_SECONDS
        _log.error(
            "%s ended with status %s; starting it again in %.1f s", child.name, status, pause
        )
        await asyncio.sleep(pause)
        pause = min(2 * pause, limits.CHILD_RESTART_MAX_SECONDS)


async def _run_once(child: Child) -> int:
    """Run the child to its end; on cancellation stop it first."""
    process = await asyncio.create_subprocess_exec(
        *clarion_command(child.arguments), preexec_fn=_prepare_child
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await _end(child, process)


async def _end(child: Child, process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), limits.CHILD_STOP_SECONDS)
    except TimeoutError:
        _log.error("%s did not stop within %.0f s", child.name, limits.CHILD_STOP_SECONDS)
        process.kill()
        await process.wait()


def _prepare_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
