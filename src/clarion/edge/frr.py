"""A running FRR, spoken to as its own shell does: over the sockets on which its daemons listen.

A command goes out with a zero byte behind it; what the daemon prints comes back, closed by three
zero bytes and one that tells how it went (`lib/vty.c` and `vtysh/vtysh.c` of FRR).
"""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from clarion.base import limits
from clarion.base.errors import ClarionError
from clarion.proto.frr.delta import Step

_CLOSED = b"\0\0\0"
SUCCESS = 0


class FrrError(ClarionError):
    """FRR does not answer, or not as expected."""


class Refusal(msgspec.Struct, frozen=True):
    """A step that a daemon did not take, and its words."""

    step: Step
    answer: str


class Vty:
    """A connection to one of FRR's daemons; use as `async with`.

    Args:
        folder: Where FRR's sockets are.
        daemon: For example `bgpd`.
    """

    def __init__(self, folder: Path, daemon: str) -> None:
        self._path = folder / f"{daemon}.vty"
        self._daemon = daemon
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            FrrError: nobody listens, or we may not connect.
        """
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(
                self._path, limit=limits.FRR_ANSWER_BYTES_MAX
            )
        except OSError as error:
            raise FrrError(f"{self._daemon} does not listen at {self._path}: {error}") from None
        try:
            await self.run("enable")
        except BaseException:
            self._writer.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def run(self, command: str) -> tuple[int, str]:
        """Run one command; its status (0 is success) and what it printed.

        Raises:
            FrrError: the daemon went away, or does not answer in time.
        """
        try:
            async with asyncio.timeout(limits.FRR_ANSWER_SECONDS):
                self._writer.write(command.encode() + b"\0")
                await self._writer.drain()
                answer = await self._reader.readuntil(_CLOSED)
                status = (await self._reader.readexactly(1))[0]
        except TimeoutError:
            raise FrrError(f"{self._daemon} does not answer") from None
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise FrrError(f"{self._daemon} does not answer: {type(error).__name__}") from None
        return status, answer[: -len(_CLOSED)].decode("utf-8", "replace")

    async def show(self, command: str) -> Any:
        """A `show ... json` command, decoded.

        Raises:
            FrrError: no answer, or none in JSON.
        """
        _status, printed = await self.run(command)
        try:
            return json.loads(printed)
        except ValueError:
            raise FrrError(f"{self._daemon}: {command}: {printed.strip()[:200]}") from None

    async def running(self) -> str:
        """The configuration in force, as it is shown.

        Raises:
            FrrError: no answer.
        """
        _status, printed = await self.run("show running-config")
        return printed

    async def configure(self, steps: Iterable[Step]) -> list[Refusal]:
        """Take all steps in turn; those that are refused are left out.

        Raises:
            FrrError: no answer, or somebody else holds the configuration.
        """
        status, printed = await self.run("configure terminal")
        if status != SUCCESS:
            raise FrrError(f"{self._daemon} cannot be configured now: {printed.strip()}")
        walk = _Walk(self)
        for step in steps:
            await walk.take(step)
        await self.run("end")
        return walk.refused


class _Walk:
    """Goes from block to block; what stands inside a block that is refused goes nowhere else."""

    def __init__(self, vty: Vty) -> None:
        self._vty = vty
        self._at: tuple[str, ...] = ()
        self._closed: tuple[str, ...] | None = None
        self.refused: list[Refusal] = []

    async def take(self, step: Step) -> None:
        if self._closed is not None and step.path[: len(self._closed)] == self._closed:
            return
        if await self._go(step.path) and step.line:
            await self._tell(step)

    async def _go(self, path: tuple[str, ...]) -> bool:
        while self._at != path[: len(self._at)]:
            await self._vty.run("exit")
            self._at = self._at[:-1]
        for line in path[len(self._at) :]:
            if not await self._tell(Step(self._at, line)):
                self._closed = (*self._at, line)
                return False
            self._at = (*self._at, line)
        return True

    async def _tell(self, step: Step) -> bool:
        status, printed = await self._vty.run(step.line)
        if status != SUCCESS:
            self.refused.append(Refusal(step, " ".join(printed.split())))
        return status == SUCCESS
