"""The back ends over FRR: what is told when it answers, refuses or is away, and by frr-k8s."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.daemons.frr import FrrBackend
from clarion.daemons.frrk8s import FrrK8s
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.events import EventRecorder, EventType
from clarion.model.core import Node
from clarion.model.frrk8s import BGPSessionState, BGPSessionStateStatus
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta, ObjectReference
from clarion.testing import builders as b
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, NoWaiting, StillClock, run, until

PEER = Peer(name="r", my_asn=64500, peer_asn=64500, address=parse_address("192.0.2.2"))
GOLDEN = Path(__file__).parents[1] / "golden" / "frr"
NEIGHBORS = json.loads((GOLDEN / "neighbors.json").read_text())


class Recorded(EventRecorder):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        super().__init__(MemoryClient(), "metallb-speaker", StillClock(), NoWaiting())
        self.facts: list[tuple[str, str]] = []

    def record(
        self, about: KubeObject | ObjectReference, type_: EventType, reason: str, message: str
    ) -> None:
        self.facts.append((reason, message))


Surroundings: TypeAlias = tuple[Runtime, Recorded, SessionNotices]


def surroundings() -> Surroundings:
    runtime = Runtime(
        "metallb-speaker", MemoryClient(), SYSTEM, clock=StillClock(), entropy=NoWaiting()
    )
    events = Recorded()
    peers = {ObjectKey(SYSTEM, "r"): b.peer("r", "192.0.2.2")}
    return runtime, events, SessionNotices(events, "n1", SYSTEM, peers)


class Daemons:
    """Sockets like those of FRR's daemons: all is taken but lines with a word that is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused = "no such word"
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        for name in ("zebra", "bgpd"):
            path = self.folder / f"{name}.vty"
            self._servers.append(await asyncio.start_unix_server(self._serve, path))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for path in self.folder.glob("*.vty"):
            path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line = (await reader.readuntil(b"\0"))[:-1].decode()
                text = ""
                if "json" in line:
                    text = json.dumps({"default": {"192.0.2.2": NEIGHBORS["192.0.2.2"]}})
                status = 1 if self.refused in line else 0
                writer.write((f"% no: {line}" if status else text).encode() + b"\0\0\0")
                writer.write(bytes([status]))
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def driven(
    folder: Path, around: Surroundings
) -> AsyncIterator[tuple[FrrBackend, Daemons, Recorded]]:
    runtime, events, notices = around
    async with runtime.tasks:
        backend = FrrBackend(runtime, "n1", folder, notices, lambda: None)
        daemons = Daemons(folder)
        try:
            yield backend, daemons, events
        finally:
            await backend.stop(keep_routes=True)
            await daemons.close()


def test_an_frr_that_does_not_answer_leaves_its_sessions_unknown(tmp_path: Path) -> None:
    around = surroundings()

    async def play() -> None:
        async with driven(tmp_path, around) as (backend, daemons, _):
            assert backend.states() == {}
            backend.set_peers({"r": PEER}, {})
            await until(backend.states)
            told = backend.states()["r"]
            assert (told.node, told.peer, told.state, told.up) == ("n1", "r", "Unknown", False)
            assert told.last_error is not None
            assert "does not listen" in told.last_error.text
            values = {item.family.name: item.value for item in backend.samples()}
            assert values[metrics.FRR_ANSWERS.name] == 0
            assert values[metrics.BGP_SESSION_UP.name] == 0
            await daemons.open()
            backend.set_peers({"r": PEER}, {})
            await until(lambda: backend.states()["r"].up)

    run(play)


def test_what_frr_refuses_is_a_problem_until_it_is_taken(tmp_path: Path) -> None:
    around = surroundings()

    async def play() -> None:
        async with driven(tmp_path, around) as (backend, daemons, events):
            daemons.refused = " timers "
            await daemons.open()
            slow = msgspec.structs.replace(PEER, hold_time=9.0, keepalive_time=3.0)
            spaced = msgspec.structs.replace(PEER, name="s", password="two words")
            backend.set_peers({"r": slow, "s": spaced}, {})
            await until(lambda: len(backend.problems()) == 2)
            told = {str(item.object): item.message for item in backend.problems()}
            assert told["BGPPeer metallb-system/r"].startswith("FRR refuses 'neighbor 192.0.2.2 t")
            assert "password" in told["BGPPeer metallb-system/s"]
            assert [reason for reason, _ in events.facts][:1] == ["SessionDown"]
            backend.set_peers({"r": PEER}, {})
            await until(lambda: backend.problems() == ())

    run(play)


@pytest.mark.parametrize("word", ["Active", "Idle"])
def test_frr_k8s_tells_of_ups_and_downs(word: str) -> None:
    runtime, events, notices = surroundings()
    runtime.follow(lambda *_: None).add(Node)

    async def play() -> None:
        async with runtime.client, runtime.tasks:
            backend = FrrK8s(runtime, "n1", "", notices, lambda: None)
            backend.set_peers({"r": PEER}, {})
            for state in (word, "Established", "Established", word):
                status = BGPSessionStateStatus(node="n1", peer="192.0.2.2", bgp_status=state)
                meta = ObjectMeta(name="n1-x", namespace=SYSTEM)
                told = BGPSessionState(metadata=meta, status=status)
                backend._told._put(ObjectKey(SYSTEM, "n1-x"), told)
                assert backend.states()["r"].state == state

    run(play)
    assert [fact for fact in events.facts if fact[0] == "SessionUp"] == [
        ("SessionUp", 'the session of node "n1" is established')
    ]
    assert events.facts[-1] == (
        "SessionDown",
        f'node "n1" lost its session: frr-k8s reports {word}',
    )
