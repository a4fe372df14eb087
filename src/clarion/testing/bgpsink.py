"""BGP peers that take everything and count it, at little cost: the far end of benchmarks.

All of them live in the loop of the program that measures. They speak just enough BGP: an OPEN with
four-octet ASNs and both unicast families, and a KEEPALIVE for each that arrives.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial

from clarion.base.addr import Address, parse_address
from clarion.edge.clock import SystemClock
from clarion.lab.netns import Namespace
from clarion.proto.bgp.iana import BGP_PORT, IPV4_UNICAST, IPV6_UNICAST, MessageType
from clarion.proto.bgp.open import Capabilities, encode_open, make_open
from clarion.proto.bgp.wire import HEADER_BYTES, KEEPALIVE
from clarion.testing.figures import inside

HOLD_SECONDS = 240
FIRST_IDENTIFIER = parse_address("192.0.2.101").value
HOST_ENTRY = b"\x20"
"""Length octet of a /32, which four octets follow (RFC 4271 §4.3)."""

_now = SystemClock().monotonic
OnUpdate = Callable[[float, bytes], None]


class SinkPeer(asyncio.Protocol):
    """One session, from its OPEN on.

    Attributes:
        established_at: When the first KEEPALIVE arrived, as `monotonic` tells it; 0 before.
        prefixes: IPv4 prefixes announced less those withdrawn; all are /32.
        updates: UPDATE messages.
        last_at: When the last of them arrived.
    """

    def __init__(self, asn: int, identifier: Address, on_update: OnUpdate | None) -> None:
        self._asn = asn
        self._identifier = identifier
        self._on_update = on_update
        self._buffer = bytearray()
        self.established_at = self.last_at = 0.0
        self.prefixes = self.updates = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The speaker has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what is whole."""
        now = _now()
        self._buffer += data
        buffer, start = bytes(self._buffer), 0
        while len(buffer) - start >= HEADER_BYTES:
            end = start + int.from_bytes(buffer[start + 16 : start + 18], "big")
            if end > len(buffer):
                break
            self._take(buffer[start + 18], buffer[start + HEADER_BYTES : end], now)
            start = end
        del self._buffer[:start]

    def _take(self, kind: int, body: bytes, now: float) -> None:
        if kind == MessageType.UPDATE:
            self.updates += 1
            self.last_at = now
            self._count(body)
            if self._on_update is not None:
                self._on_update(now, body)
        elif kind == MessageType.OPEN:
            offer = Capabilities(families=(IPV4_UNICAST, IPV6_UNICAST), four_octet_asn=self._asn)
            words = encode_open(make_open(self._asn, HOLD_SECONDS, self._identifier, offer))
            self._transport.write(words + KEEPALIVE)
        elif kind == MessageType.KEEPALIVE:
            if self.established_at:
                self._transport.write(KEEPALIVE)
            else:
                self.established_at = now
        else:
            assert kind == MessageType.NOTIFICATION, f"message of type {kind}: {body!r}"

    def _count(self, body: bytes) -> None:
        attributes = 2 + int.from_bytes(body[:2], "big")
        start = attributes + 2 + int.from_bytes(body[attributes : attributes + 2], "big")
        self.prefixes += _hosts(body[start:]) - _hosts(body[2:attributes])


def _hosts(nlri: bytes) -> int:
    """Entries of a field that holds nothing but /32."""
    count = len(nlri) // 5
    assert nlri[::5] == HOST_ENTRY * count
    return count


class Sink:
    """Peers that listen on addresses of a namespace; a speaker that connects meets one."""

    def __init__(self, asn: int, on_update: OnUpdate | None = None) -> None:
        self._asn = asn
        self._on_update = on_update
        self._servers: list[asyncio.Server] = []
        self.peers: list[SinkPeer] = []

    async def listen(self, host: Namespace, addresses: Sequence[str]) -> None:
        """Listen on these addresses of a host."""
        for address in addresses:
            version = socket.AF_INET6 if ":" in address else socket.AF_INET
            with inside(host):
                sock = socket.create_server((address, BGP_PORT), family=version)
            identifier = Address(4, FIRST_IDENTIFIER + len(self._servers))
            accept = partial(self._accept, identifier)
            loop = asyncio.get_running_loop()
            self._servers.append(await loop.create_server(accept, sock=sock))

    def _accept(self, identifier: Address) -> SinkPeer:
        peer = SinkPeer(self._asn, identifier, self._on_update)
        self.peers.append(peer)
        return peer

    def close(self) -> None:
        """Listen no longer, and forget everybody."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.peers.clear()
