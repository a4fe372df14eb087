"""A raw ICMPv6 socket for Router Solicitations and Advertisements on one interface.

Opening one needs the right to raw sockets (CAP_NET_RAW). The kernel writes the checksum of what is
sent, verifies that of what arrives, and chooses the interface's link-local address as the source.
"""

import os
import socket
import struct
from typing import Final

from clarion.base.addr import Address
from clarion.base.limits import ND_MESSAGE_BYTES
from clarion.edge.tcp import name_of
from clarion.proto.nd.messages import ALL_ROUTERS, RouterType

_ICMP6_FILTER: Final = 1
_FILTER_WORDS: Final = 8
_HOP_LIMIT: Final = 255


def type_filter() -> bytes:
    """The set of ICMPv6 types that the kernel keeps from us, one bit each (RFC 3542 §3.2)."""
    words = [0xFFFFFFFF] * _FILTER_WORDS
    for kind in RouterType:
        words[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack(f"={_FILTER_WORDS}I", *words)


class RouterSocket:
    """Hears and speaks router discovery on one interface.

    Raises:
        OSError: no right to raw sockets, or no such interface.
    """

    def __init__(self, interface: str, index: int) -> None:
        self._index = index
        self._sock = socket.socket(
            socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6
        )
        try:
            self._configure(interface, index)
        except BaseException:  # the socket must not outlive any failure; nothing is swallowed
            self._sock.close()
            raise

    def _configure(self, interface: str, index: int) -> None:
        sock, ipv6 = self._sock, socket.IPPROTO_IPV6
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, type_filter())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(interface))
        sock.setsockopt(ipv6, socket.IPV6_MULTICAST_IF, index)
        # RFC 4861 §4.1, §4.2: hop limit 255
        sock.setsockopt(ipv6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        sock.setsockopt(ipv6, socket.IPV6_MULTICAST_LOOP, 0)
        sock.setsockopt(ipv6, socket.IPV6_RECVHOPLIMIT, 1)
        # Every host is in the group of all nodes; in that of all routers only who asks for it.
        group = ALL_ROUTERS.packed + struct.pack("=I", index)
        sock.setsockopt(ipv6, socket.IPV6_JOIN_GROUP, group)

    def fileno(self) -> int:
        """For the event loop."""
        return self._sock.fileno()

    def send(self, destination: Address, payload: bytes) -> None:
        """Send to a group of the link.

        Raises:
            OSError: the interface cannot send now.
        """
        self._sock.sendto(payload, (str(destination), 0, 0, self._index))

    def receive(self) -> tuple[bytes, Address, int] | None:
        """A message, its source and its hop limit; None when nothing waits.

        Raises:
            OSError: the interface went away.
        """
        try:
            payload, ancillary, _, sender = self._sock.recvmsg(
                ND_MESSAGE_BYTES, socket.CMSG_SPACE(4)
            )
        except BlockingIOError:
            return None
        hop_limit = 0
        for level, kind, data in ancillary:
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
                (hop_limit,) = struct.unpack_from("=i", data)
        return payload, name_of(sender)[0], hop_limit

    def close(self) -> None:
        """Leave the group and close."""
        self._sock.close()
