"""The bed of the BFD tests: the native back end and its pulse process at 192.0.2.21."""

import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from clarion.lab.frr import Frr
from clarion.lab.netns import Namespace
from clarion.lab.process import Process, wait_until
from clarion.lab.routers import Router
from clarion.proto.bfd.config import BfdStatus

from .bfd_speaker_main import Command, Row, State

US = 21
US4, US6 = f"192.0.2.{US}", f"2001:db8:1::{US:x}"
PROGRAM = Path(__file__).with_name("bfd_speaker_main.py")


class Speaker:
    """The program under test, spoken to over its control socket."""

    def __init__(self, host: Namespace) -> None:
        self.host = host
        self.process: Process
        self.path: Path
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.path = self.host.lab.run_dir / f"bfd-{self.starts}.sock"
        self.path.unlink(missing_ok=True)
        argv = [sys.executable, str(PROGRAM), str(self.path)]
        self.process = self.host.popen(argv, log=f"bfd-{self.starts}.log")
        wait_until(self._answers, 20, "the speaker answers", interval=0.02)

    def _answers(self) -> bool:
        self.process.require("the speaker")
        try:
            self.tell(Command())
        except (FileNotFoundError, ConnectionRefusedError):  # the file is there before who listens
            return False
        return True

    def tell(self, command: Command) -> State:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.path))
            sock.sendall(msgspec.json.encode(command) + b"\n")
            answer = b""
            while piece := sock.recv(1 << 20):
                answer += piece
        assert answer, self.process.tail()
        return msgspec.json.decode(answer, type=State)

    def peers(self, rows: dict[str, Row], *, restarted: bool = False) -> State:
        return self.tell(Command(peers=rows, restarted=restarted))

    @property
    def state(self) -> State:
        return self.tell(Command())

    def path_to(self, name: str) -> BfdStatus:
        return self.state.paths[name]

    def established(self, name: str) -> bool:
        return self.state.sessions[name][0] == "Established"

    def wait_paths(self, *names: str, timeout: float = 20) -> None:
        """Until BFD with these peers is up and fast."""

        def fast() -> bool:
            paths = self.state.paths
            return all(n in paths and paths[n].up and paths[n].receive_interval < 1 for n in names)

        wait_until(fast, timeout, f"BFD up: {names}", seen=lambda: self.state.paths, interval=0.02)

    def wait_sessions(self, *names: str) -> None:
        wait_until(
            lambda: all(self.established(name) for name in names),
            20,
            f"BGP established: {names}",
            seen=lambda: self.state.sessions,
            interval=0.02,
        )

    def stop(self, *, keep: bool = False) -> None:
        if self.process.alive:
            self.tell(Command(stop=True, keep=keep))
            self.process.wait()


def frr_path(router: Router, address: str) -> dict[str, Any]:
    """What FRR says of its BFD session with an address; empty if it has none."""
    assert isinstance(router, Frr)
    return next((row for row in router.bfd_peers() if row["peer"] == address), {})


def frr_downs(router: Router, address: str) -> int:
    """How often FRR lost its BFD session with an address."""
    assert isinstance(router, Frr)
    rows = router.query("show bfd peers counters json")
    return next(int(row["session-down"]) for row in rows if row["peer"] == address)
