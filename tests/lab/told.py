"""Programs under test that are told over a socket what to do."""

import socket
import sys
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from clarion.lab.netns import Namespace
from clarion.lab.process import Process, wait_until

State = TypeVar("State")
ANSWER_SECONDS = 20
PIECE_BYTES = 1 << 20


class Told(Generic[State]):
    """A program in a namespace; a command and the state after it are one line of JSON each."""

    def __init__(self, host: Namespace, program: Path, state: type[State], name: str) -> None:
        self.host = host
        self._program, self._state = program, state
        self.launch(name)

    def launch(self, name: str) -> None:
        """Start the program, also again after it ended; the name is that of its socket and log."""
        self.path = self.host.lab.run_dir / f"{name}.sock"
        self.path.unlink(missing_ok=True)
        argv = [sys.executable, str(self._program), str(self.path)]
        self.process: Process = self.host.popen(argv, log=f"{name}.log")
        wait_until(
            self._answers, ANSWER_SECONDS, f"{name} answers", seen=self.process.tail, interval=0.02
        )

    def _answers(self) -> bool:
        self.process.require("the program under test")
        try:
            self.ask({})
        except (FileNotFoundError, ConnectionRefusedError):  # the file is there before who listens
            return False
        return True

    def ask(self, command: object) -> State:
        """Give a command; one without fields only asks how things stand."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(str(self.path))
            sock.sendall(msgspec.json.encode(command) + b"\n")
            answer = b""
            while piece := sock.recv(PIECE_BYTES):
                answer += piece
        assert answer, f"the program ended: {self.process.tail()}"
        return msgspec.json.decode(answer, type=self._state)
