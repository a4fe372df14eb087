"""Listens for the connections of BGP peers, and demands their signatures (RFC 2385).

Peers that are bound to a device have a listener that is bound to it too: two VRFs may hold the same
peer address, and the other ends of two interfaces the same link-local one, with keys of their own.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.errors import InvalidInputError
from clarion.base.limits import (
    BGP_ACCEPT_BATCH,
    BGP_ACCEPT_PAUSE_SECONDS,
    BGP_LISTEN_RETRY_SECONDS,
)
from clarion.edge import tcp
from clarion.edge.bgp_host import Host, why
from clarion.edge.ifaddrs import interface_state
from clarion.proto.bgp.config import PeerConfig

VERSIONS: Final = (4, 6)
# An unnumbered peer signs before its address is known; its interface tells who it is.
_LINK_LOCAL: Final = Prefix(6, 0xFE80 << 112, 10)

OnAccept = Callable[[str, socket.socket], None]
"""Takes the device of the listener, and the connection."""


class ListenerStatus(msgspec.Struct, frozen=True):
    """Whether peers can connect to us. `errors` says why an IP version is not listened on."""

    port: int
    versions: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()


class Listener:
    """One device, or everywhere else: a socket per IP version."""

    def __init__(self, host: Host, port: int, device: str, accept: OnAccept) -> None:
        self._host = host
        self._port = port
        self._device = device
        self._accept = accept
        self._index = 0
        self.socks: dict[int, socket.socket] = {}
        self.errors: dict[int, str] = {}
        self._keys: dict[Address | Prefix, str] = {}
        self._hops: dict[int, tcp.TcpOptions] = {}

    def open(self, *, shared: Collection[int]) -> None:
        """Bind what is not bound yet; on `shared` IP versions we have the port already."""
        if self._device:
            state = interface_state(self._device)
            index = state.index if state else 0
            if index != self._index:
                self.close()  # another interface of the same name: the old sockets hear nothing
            self._index = index
        for version in VERSIONS:
            if version in self.socks:
                continue
            try:
                sock = self._bind(version, shared=version in shared)
            except OSError as error:
                where = f" on {self._device}" if self._device else ""
                self.errors[version] = f"IPv{version} port {self._port}{where}: {why(error)}"
                continue
            self.errors.pop(version, None)
            self.socks[version] = sock
            for address, password in self._keys.items():
                self._set_key(address, password)
            tcp.set_hops(sock, version, self._hops.get(version, tcp.TcpOptions()))
            self._host.loop.add_reader(sock, self._ready, sock)

    def _bind(self, version: int, *, shared: bool) -> socket.socket:
        try:
            return tcp.listen(version, self._port, device=self._device)
        except OSError as error:
            if not shared or error.errno != errno.EADDRINUSE:
                raise
        # The port is ours already, for another device: that is no obstacle.
        return tcp.listen(version, self._port, device=self._device, beside=True)

    def set_peers(self, peers: Collection[PeerConfig]) -> None:
        """Demand signatures of exactly those peers that have a password, and GTSM of all if all do.

        A key that cannot be set is reported by the session, which meets the same refusal when it
        connects; without a key here the peer's signed connections are not answered.
        """
        keys = {peer.peer_address or _LINK_LOCAL: peer.password for peer in peers if peer.password}
        for address in self._keys.keys() - keys.keys():
            self._set_key(address, "")
        for address, password in keys.items():
            if self._keys.get(address) != password:
                self._set_key(address, password)
        self._keys = dict(keys)
        self._hops = {version: _hops(peers, version) for version in VERSIONS}
        for version, sock in self.socks.items():
            tcp.set_hops(sock, version, self._hops[version])

    def _set_key(self, address: Address | Prefix, password: str) -> None:
        sock = self.socks.get(address.version)
        if sock is not None:
            with contextlib.suppress(OSError, InvalidInputError):  # see `set_peers`
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
            self._accept(self._device, sock)

    def _listen_on(self, listener: socket.socket) -> None:
        if listener in self.socks.values():
            self._host.loop.add_reader(listener, self._ready, listener)

    def close(self) -> None:
        """Stop to listen."""
        for sock in self.socks.values():
            self._host.loop.remove_reader(sock)
            sock.close()
        self.socks.clear()


def _hops(peers: Collection[PeerConfig], version: int) -> tcp.TcpOptions:
    """How far the packets of a handshake travel: what all these peers can live with.

    RFC 5082 §3: our answer to a peer that uses GTSM must leave with 255. What came too far is only
    refused here when every peer uses GTSM; otherwise each accepted connection decides.
    """
    allowed = [
        peer.ttl_security
        for peer in peers
        if (peer.peer_address.version if peer.peer_address else 6) == version
    ]
    if not any(allowed):
        return tcp.TcpOptions()
    return tcp.TcpOptions(ttl=255, min_ttl=256 - max(allowed) if all(allowed) else 0)


class Listeners:
    """All listeners on one port. What cannot be bound is tried again later."""

    def __init__(self, host: Host, port: int, accept: OnAccept) -> None:
        self._host = host
        self._port = port
        self._accept = accept
        self._by_device: dict[str, Listener] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status(self) -> ListenerStatus:
        """Where we listen."""
        each = self._by_device.values()
        return ListenerStatus(
            self._port,
            tuple(version for version in VERSIONS if any(version in one.socks for one in each)),
            tuple(error for one in each for error in one.errors.values()),
        )

    def set_peers(self, peers: Collection[PeerConfig]) -> None:
        """Listen for exactly these; without any, for whoever will be configured."""
        by_device: dict[str, list[PeerConfig]] = {} if peers else {"": []}
        for peer in peers:
            by_device.setdefault(peer.listening_device, []).append(peer)
        for device in self._by_device.keys() - by_device.keys():
            self._by_device.pop(device).close()
        for device, theirs in by_device.items():
            if device not in self._by_device:
                self._by_device[device] = Listener(self._host, self._port, device, self._accept)
            self._by_device[device].set_peers(theirs)
        self.open()

    def open(self) -> None:
        """Bind what is not bound yet, now and until it works."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for listener in self._by_device.values():
            shared = {v for other in self._by_device.values() for v in other.socks}
            listener.open(shared=shared)
        if any(listener.errors for listener in self._by_device.values()):
            self._timer = self._host.loop.call_later(BGP_LISTEN_RETRY_SECONDS, self.open)

    def close(self) -> None:
        """Stop to listen."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for listener in self._by_device.values():
            listener.close()
        self._by_device.clear()
