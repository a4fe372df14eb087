"""The two API servers that the same tests meet: the embedded one, and Kubernetes' own."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Literal, TypeAlias

import aiohttp

from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient
from clarion.edge.kubeconfig import find_config
from clarion.testing.apiprocess import ApiProcess, Kubectl
from clarion.testing.engine import SERVICE_RANGES, Engine

Name: TypeAlias = Literal["embedded", "real"]
NAMES: tuple[Name, ...] = ("embedded", "real")
SYSTEM = "metallb-system"


class Side(ABC):
    """One API server, as its administrator has it."""

    name: Name
    cluster_ips: IPv4Network

    def __init__(self, kubeconfig: Path, kubectl: Kubectl) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl = kubectl

    @abstractmethod
    def connector(self) -> aiohttp.TCPConnector:
        """Connections that prove who we are."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it listens."""

    @property
    @abstractmethod
    def curl_flags(self) -> Sequence[str]:
        """What tells curl who we are."""

    @abstractmethod
    def kill(self) -> None:
        """End it as a crash would."""

    @abstractmethod
    def start(self) -> None:
        """Start it again at the same place."""

    @abstractmethod
    def forget(self) -> None:
        """Make it forget its history, or leave it to do so soon, when more is written."""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[KubeClient]:
        """Our own client, as the kubeconfig says."""
        async with KubeClient(find_config(str(self.kubeconfig), SystemClock())) as client:
            yield client

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Plain HTTP to it."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(
            self.url, timeout=timeout, connector=self.connector()
        ) as session:
            yield session


class Embedded(Side):
    """Our own."""

    name = "embedded"
    cluster_ips = IPv4Network("10.96.0.0/16")

    def __init__(self, server: ApiProcess, home: Path) -> None:
        super().__init__(server.kubeconfig, Kubectl(server.kubeconfig, home))
        self._server = server

    def connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def curl_flags(self) -> Sequence[str]:
        return ()

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._server.start()

    def forget(self) -> None:
        """It does as its flags say."""


class Real(Side):
    """Kubernetes' own."""

    name = "real"

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.kubeconfig, engine.kubectl)
        self.engine = engine
        network = ip_network(SERVICE_RANGES[0])
        assert isinstance(network, IPv4Network)
        self.cluster_ips = network

    def connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(ssl=self.engine.ssl_context())

    @property
    def url(self) -> str:
        return self.engine.url

    @property
    def curl_flags(self) -> Sequence[str]:
        folder = self.engine.directory
        return (
            *("--cacert", str(self.engine.authority)),
            *("--cert", str(folder / "admin.crt"), "--key", str(folder / "admin.key")),
        )

    def kill(self) -> None:
        self.engine.stop_api()

    def start(self) -> None:
        self.engine.start_api()

    def forget(self) -> None:
        self.engine.forget_history()
