"""Ends the programs of a test run when the run itself is gone, however it went.

The run holds the writing end of a pipe and writes `PID TICKS` for each program that it starts. When
the run ends, even by SIGKILL, the kernel closes the pipe: the keeper ends what still runs, known by
pid and start time. (A signal at the parent's death would not do: it is sent when the thread that
started the program ends, and tests start some from worker threads.)
"""

import subprocess
import sys
from collections.abc import Iterable
from itertools import takewhile
from typing import Self

from clarion.lab.process import Process, end_pid

END = "end\n"
"""Said at an orderly end, so that nobody who holds a copy of the pipe keeps the keeper waiting."""


class Keeper:
    """The keeper's side in the test run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # what is typed at the run's terminal is not for it
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.communicate(END)
            self._process = None

    def hold(self, program: Process) -> None:
        """End this program when the run is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{program.pid} {program.ticks}\n")
        self._process.stdin.flush()


def keep(lines: Iterable[str]) -> None:
    """Read what there is to end until the run is gone; end the last started first."""
    whole = (line for line in takewhile(END.__ne__, lines) if line.endswith("\n"))
    held = [tuple(map(int, line.split())) for line in whole]
    for pid, ticks in reversed(held):
        end_pid(pid, ticks)


if __name__ == "__main__":
    keep(sys.stdin)
