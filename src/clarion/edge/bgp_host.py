"""What the parts of a BGP speaker share: the loop, the time, and connections on their way out."""

import asyncio
import socket
import zlib

from clarion.base.addr import Address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_CLOSING_MAX, BGP_LINGER_SECONDS
from clarion.base.ports import Clock, Entropy
from clarion.edge import tcp
from clarion.edge.ifaddrs import companions, device_indexes, interface_addresses
from clarion.proto.bgp.config import Endpoints
from clarion.proto.bgp.encoder import Encoder


def default_router_id(node_name: str) -> Address:
    """The identifier of a node without any IPv4 address: from its name, as MetalLB derives it."""
    digest = zlib.crc32(node_name.encode()).to_bytes(4, "little")
    return Address(4, int.from_bytes(digest, "big") or 1)  # RFC 6286 §2.1: never zero


def why(error: OSError | InvalidInputError) -> str:
    """The reason alone, without number and file name."""
    return getattr(error, "strerror", None) or str(error)


class Host:
    """What the parts of a speaker share: the loop, the time, and connections that are closing."""

    def __init__(self, node_name: str, clock: Clock, entropy: Entropy) -> None:
        self.loop = asyncio.get_running_loop()
        self.node_name = node_name
        self.clock = clock
        self.entropy = entropy
        self.encoder = Encoder()
        self.closing: dict[Farewell, None] = {}

    def bid_farewell(self, sock: socket.socket, words: bytes) -> None:
        """Write the last words and close, within BGP_LINGER_SECONDS."""
        if len(self.closing) >= BGP_CLOSING_MAX:
            next(iter(self.closing)).close()
        Farewell(self, sock, words)

    def endpoints(self, sock: socket.socket, device: str) -> Endpoints:
        """The addresses of a connection, and those beside them on its interface.

        Args:
            sock: The connection.
            device: The interface or VRF that it is bound to; empty for none.

        Raises:
            OSError: the connection, or the device, is gone already.
        """
        (local, local_port), (remote, remote_port) = tcp.local_name(sock), tcp.remote_name(sock)
        scope = tcp.scope_of(sock)
        among = {scope} if scope else device_indexes(device) if device else None
        beside = companions(local, interface_addresses(), among)
        return Endpoints(
            local=local,
            remote=remote,
            local_port=local_port,
            remote_port=remote_port,
            next_hop_ipv4=beside.get(4),
            next_hop_ipv6=beside.get(6),
            router_id=beside.get(4) or default_router_id(self.node_name),
        )


class Farewell:
    """A connection on its way out.

    Closing at once would send a reset when the peer has bytes under way, and the reset would
    overtake the NOTIFICATION; so the last words are written, our side is shut, and what still
    arrives is read and dropped until the peer closes too or time is up.
    """

    def __init__(self, host: Host, sock: socket.socket, words: bytes) -> None:
        self._host, self._sock, self._words = host, sock, words
        self.done: asyncio.Future[None] = host.loop.create_future()
        host.closing[self] = None
        self._timer = host.loop.call_later(BGP_LINGER_SECONDS, self.close)
        host.loop.add_reader(sock, self._read)
        self._write()

    def _write(self) -> None:
        loop = self._host.loop
        try:
            while self._words:
                self._words = self._words[self._sock.send(self._words) :]
            loop.remove_writer(self._sock)
            self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            loop.add_writer(self._sock, self._write)
        except OSError:
            self.close()

    def _read(self) -> None:
        try:
            if not self._sock.recv(BGP_CHUNK_BYTES):
                self.close()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """Close now."""
        self._host.closing.pop(self, None)
        self._timer.cancel()
        self._host.loop.remove_reader(self._sock)
        self._host.loop.remove_writer(self._sock)
        self._sock.close()
        if not self.done.done():
            self.done.set_result(None)
