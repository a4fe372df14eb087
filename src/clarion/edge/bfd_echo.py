"""Echo packets of BFD, which the other side's kernel forwards back to us (RFC 5881 §4).

A packet socket on the session's interface sends them to the other side's hardware address, which it
learns from the Control packets that pass by, and hears them when they come back: the kernel itself
would drop a packet that claims to be from one of its own addresses.
"""

import socket
import struct
from pathlib import Path
from typing import Final

from clarion.base.addr import Address
from clarion.edge.packet import attach_filter
from clarion.proto.bfd.demux import SINGLE_HOP_PORT
from clarion.proto.bfd.echo import PORT
from clarion.proto.l2.ethernet import EtherType

_UDP: Final = 17
_DATAGRAM: Final = 512
_WHOLE: Final = 0xFFFF
_CONFIGURATION: Final = Path("/proc/sys/net")
# BPF op-codes (linux/filter.h).
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_AT_X = 0x30, 0x28, 0x48
_X_IS_IPV4_HEADER: Final = 0xB1
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_DESTINATION_PORT: Final = 2


def _program(version: int) -> bytes:
    """Passes UDP to the ports of echo and of single-hop Control packets."""
    if version == 4:
        protocol, load = 9, [(_X_IS_IPV4_HEADER, 0, 0, 0), (_LOAD_HALF_AT_X, 0, 0, 2)]
    else:
        protocol, load = 6, [(_LOAD_HALF, 0, 0, 40 + _DESTINATION_PORT)]
    code = [
        (_LOAD_BYTE, 0, 0, protocol),
        (_JUMP_EQUAL, 0, len(load) + 3, _UDP),
        *load,
        (_JUMP_EQUAL, 1, 0, PORT),
        (_JUMP_EQUAL, 0, 1, SINGLE_HOP_PORT),
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class EchoSocket:
    """Sends and hears the echo packets of one session.

    Args:
        interface: Name of the interface to the other side.
        remote: Address of the other side.

    Raises:
        OSError: the interface is gone, or the process may not open packet sockets.
    """

    def __init__(self, interface: str, remote: Address) -> None:
        version = remote.version
        self._remote = remote.packed
        self._source = slice(12, 16) if version == 4 else slice(8, 24)
        self._protocol = 0x0800 if version == 4 else EtherType.IPV6
        self._interface = interface
        self._mac = b""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        try:
            attach_filter(self._socket, _program(version))
            self._socket.bind((interface, self._protocol))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    @property
    def knows_the_way(self) -> bool:
        """Whether the other side's hardware address was seen."""
        return bool(self._mac)

    def send(self, datagram: bytes) -> None:
        """Hand an IP packet to the other side.

        Raises:
            OSError: the interface is down or gone, or its queue is full.
        """
        self._socket.sendto(datagram, (self._interface, self._protocol, 0, 0, self._mac))

    def receive(self) -> bytes | None:
        """The next IP packet that may be an echo, None when none waits."""
        while True:
            try:
                data, (_, _, kind, _, mac) = self._socket.recvfrom(_DATAGRAM)
            except OSError:  # none waits, or the interface went down; netlink tells the rest
                return None
            if kind != socket.PACKET_HOST:
                continue
            if data[self._source] != self._remote:
                return bytes(data)
            self._mac = mac

    def close(self) -> None:
        """Send and hear nothing any more."""
        self._socket.close()


def forwards(interface: str, version: int) -> bool:
    """Whether this host's kernel forwards what arrives on an interface, and so loops echos back."""
    path = _CONFIGURATION / f"ipv{version}" / "conf" / interface / "forwarding"
    try:
        return path.read_text().strip() != "0"
    except OSError:
        return False
