"""What tests of the client on the real API server share: followers, and a network that breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.edge.reflector import Informers
from clarion.edge.tasks import Supervisor
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey
from clarion.testing.engine import Engine

PATIENCE_SECONDS = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


class Following:
    """Informers of some kinds, and every change that they told of."""

    def __init__(self, client: KubeClient) -> None:
        self.changes: list[str] = []
        self.informers = Informers(client, SystemClock(), SystemEntropy(), self._on_delta)

    def _on_delta(
        self, kind: Kind, key: ObjectKey, old: KubeObject | None, new: KubeObject | None
    ) -> None:
        sign = "+" if old is None else "-" if new is None else "~"
        self.changes.append(f"{sign}{kind.kind} {key.name}")

    def names(self, of: type[KubeObject]) -> set[str]:
        """The objects of a kind, by name."""
        return {key.name for key in self.informers.store(of)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow; on entry everything was read once."""
        async with Supervisor(SystemClock(), SystemEntropy()) as tasks:
            self.informers.start(tasks)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.informers.wait_synced()
            yield
            assert not tasks.stopping, "a reflector has ended"


@asynccontextmanager
async def connected(kubeconfig: Path, patience: float = 30.0) -> AsyncIterator[KubeClient]:
    """A client of the API server in a kubeconfig, that waits so long for each answer."""
    async with KubeClient(find_config(str(kubeconfig), SystemClock()), patience) as client:
        yield client


class Relay:
    """A TCP relay before the API server: the network between it and the client, to be broken.

    Args:
        engine: Whose API server.
        directory: For a kubeconfig that leads through the relay.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._server: asyncio.Server | None = None
        self._carriers: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._port = 0
        self.connections = 0

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, but with the relay's address."""
        path = self._directory / "relay.kubeconfig"
        text = self._engine.kubeconfig.read_text()
        path.write_text(text.replace(self._engine.url, f"https://127.0.0.1:{self._port}"))
        return path

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._carriers)

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._open.set()
        await self.cut()

    async def restore(self) -> None:
        """Take connections, at the same place each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse new connections and end those that there are."""
        assert self._server is not None
        self._server.close()

        def ended() -> bool:
            for carrier in self._carriers:
                carrier.cancel()  # some were accepted just before the end
            return not self._carriers

        await until(ended)

    def silence(self) -> None:
        """Carry nothing any more, in either direction, over connections that stay open."""
        self._open.clear()

    def speak(self) -> None:
        """Carry again what comes."""
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        back, forth = await asyncio.open_connection("127.0.0.1", self._engine.port)
        carrier = asyncio.current_task()
        assert carrier is not None
        self._carriers.add(carrier)
        with contextlib.suppress(asyncio.CancelledError):  # by `cut`, and it ends here
            await asyncio.gather(self._carry(reader, forth), self._carry(back, writer))
        self._carriers.discard(carrier)
        writer.transport.abort()
        forth.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self._open.wait()
                target.write(data)
                await target.drain()
        target.close()
