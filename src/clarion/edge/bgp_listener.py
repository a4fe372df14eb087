"""Listens for the connections of BGP peers, and demands their signatures (RFC 2385)."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import msgspec

from clarion.base.addr import Address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import (
    BGP_ACCEPT_BATCH,
    BGP_ACCEPT_PAUSE_SECONDS,
    BGP_LISTEN_RETRY_SECONDS,
)
from clarion.edge import tcp
from clarion.edge.bgp_host import Host, why


class ListenerStatus(msgspec.Struct, frozen=True):
    """Whether peers can connect to us. `errors` says why an IP version is not listened on."""

    port: int
    versions: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()


class Listener:
    """Accepts connections for all peers. A port that cannot be bound is tried again later."""

    def __init__(self, host: Host, port: int, accept: Callable[[socket.socket], None]) -> None:
        self._host = host
        self._port = port
        self._accept = accept
        self._socks: dict[int, socket.socket] = {}
        self._errors: dict[int, str] = {}
        self._keys: dict[Address, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status(self) -> ListenerStatus:
        """Where we listen."""
        return ListenerStatus(self._port, tuple(self._socks), tuple(self._errors.values()))

    def open(self) -> None:
        """Bind what is not bound yet."""
        self._timer = None
        for version in (4, 6):
            if version in self._socks:
                continue
            try:
                sock = tcp.listen(version, self._port)
            except OSError as error:
                reason = f"IPv{version} port {self._port}: {why(error)}"
                self._errors[version] = reason
                continue
            self._errors.pop(version, None)
            self._socks[version] = sock
            for address, password in self._keys.items():
                self._set_key(address, password)
            self._host.loop.add_reader(sock, self._ready, sock)
        if self._errors:
            self._timer = self._host.loop.call_later(BGP_LISTEN_RETRY_SECONDS, self.open)

    def set_keys(self, keys: dict[Address, str]) -> None:
        """Demand signatures of exactly these peers (RFC 2385)."""
        for address in self._keys.keys() - keys.keys():
            self._set_key(address, "")
        for address, password in keys.items():
            if self._keys.get(address) != password:
                self._set_key(address, password)
        self._keys = dict(keys)

    def _set_key(self, address: Address, password: str) -> None:
        sock = self._socks.get(address.version)
        if sock is None:
            return
        # A key that cannot be set is reported by the session, which meets the same refusal when it
        # connects; without a key here the peer's signed connections are not answered.
        with contextlib.suppress(OSError, InvalidInputError):
            tcp.set_md5_key(sock, address, password)

    def _ready(self, listener: socket.socket) -> None:
        for _ in range(BGP_ACCEPT_BATCH):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors or memory: the connection waits, and so do we
                self._host.loop.remove_reader(listener)
                self._host.loop.call_later(BGP_ACCEPT_PAUSE_SECONDS, self._listen_on, listener)
                return
            self._accept(sock)

    def _listen_on(self, listener: socket.socket) -> None:
        if listener in self._socks.values():
            self._host.loop.add_reader(listener, self._ready, listener)

    def close(self) -> None:
        """Stop to listen."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._socks.values():
            self._host.loop.remove_reader(sock)
            sock.close()
        self._socks.clear()
