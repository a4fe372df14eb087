"""Packet sockets that hear ARP requests and Neighbor Solicitations, or the answers to them.

Each socket is bound to one interface and one EtherType and has a classic BPF program, so that other
frames never wake the process. It is opened without a protocol, given the program, and then bound:
nothing unfiltered can be queued in between. An announced IPv6 address is not configured on the
host, so an ICMPv6 socket would not be given the unicast solicitations that probe it (RFC 4861
§7.3.3); a packet socket is. The solicited-node groups are joined on ordinary IPv6 sockets: that
sets the network card's filter and sends MLD reports for snooping switches (RFC 3810).
"""

import contextlib
import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final

from clarion.base.addr import Address
from clarion.base.limits import L2_GROUP_SOCKETS_MAX, L2_RECEIVE_QUEUE_BYTES
from clarion.proto.l2.arp import Operation
from clarion.proto.l2.ethernet import EtherType
from clarion.proto.l2.ndp import IcmpType, solicited_node

# Linux socket options and BPF op-codes that the standard library does not name.
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_MR_ALLMULTI: Final = 2
_LOAD_WORD: Final = 0x20
_LOAD_HALF: Final = 0x28
_LOAD_BYTE: Final = 0x30
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_WHOLE_FRAME: Final = 0xFFFF
_ANCILLARY: Final = 0xFFFFF000  # SKF_AD_OFF
_PACKET_TYPE: Final = _ANCILLARY + 4
_INTERFACE_INDEX: Final = _ANCILLARY + 8

_ETHERTYPE_AT: Final = 12
_ARP_OPERATION_AT: Final = 20
_IPV6_NEXT_HEADER_AT: Final = 20
_ICMPV6_TYPE_AT: Final = 54
_FRAME_BYTES: Final = 2048

Check = tuple[int, int, int]
"""A load op-code, its offset, and the value that must be there."""


def arp_checks() -> tuple[Check, ...]:
    """What makes a frame an ARP request."""
    return (
        (_LOAD_HALF, _ETHERTYPE_AT, EtherType.ARP),
        (_LOAD_HALF, _ARP_OPERATION_AT, Operation.REQUEST),
    )


def ndp_checks() -> tuple[Check, ...]:
    """What makes a frame a Neighbor Solicitation without extension headers."""
    return (
        (_LOAD_HALF, _ETHERTYPE_AT, EtherType.IPV6),
        (_LOAD_BYTE, _IPV6_NEXT_HEADER_AT, socket.IPPROTO_ICMPV6),
        (_LOAD_BYTE, _ICMPV6_TYPE_AT, IcmpType.NEIGHBOR_SOLICITATION),
    )


def answer_checks(ethertype: EtherType) -> tuple[Check, ...]:
    """What makes a frame an ARP reply, or a Neighbor Advertisement without extension headers."""
    if ethertype == EtherType.ARP:
        return (
            (_LOAD_HALF, _ETHERTYPE_AT, EtherType.ARP),
            (_LOAD_HALF, _ARP_OPERATION_AT, Operation.REPLY),
        )
    return (
        (_LOAD_HALF, _ETHERTYPE_AT, EtherType.IPV6),
        (_LOAD_BYTE, _IPV6_NEXT_HEADER_AT, socket.IPPROTO_ICMPV6),
        (_LOAD_BYTE, _ICMPV6_TYPE_AT, IcmpType.NEIGHBOR_ADVERTISEMENT),
    )


def filter_program(index: int, checks: Iterable[Check]) -> bytes:
    """A BPF program that passes frames of one interface that fulfil every check.

    A socket bound to a VLAN's parent also sees the VLAN's frames, marked with the VLAN's own
    interface or, if there is none, as meant for another host; neither belongs to this segment.
    """
    tests = ((_LOAD_WORD, _INTERFACE_INDEX, index), *checks)
    code = [(_LOAD_BYTE, 0, 0, _PACKET_TYPE)]
    # Two instructions per test follow, then the two returns: pass, refuse.
    refuse = len(code) + 1 + 2 * len(tests) + 1
    code.append((_JUMP_EQUAL, refuse - len(code) - 1, 0, socket.PACKET_OTHERHOST))
    for load, offset, wanted in tests:
        code.append((load, 0, 0, offset))
        code.append((_JUMP_EQUAL, 0, refuse - len(code) - 1, wanted))
    code += [(_RETURN, 0, 0, _WHOLE_FRAME), (_RETURN, 0, 0, 0)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _enlarge_queue(sock: socket.socket) -> None:
    """Ask for a long receive queue; inside a user namespace the system's limit stays in force."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, L2_RECEIVE_QUEUE_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, L2_RECEIVE_QUEUE_BYTES)


class PacketSocket:
    """A non-blocking packet socket for one EtherType on one interface.

    Args:
        index: The interface.
        ethertype: ARP, or IPv6 for neighbor discovery.
        answers: Hear the answers instead of the questions.

    Raises:
        OSError: the interface is gone, or the process may not open packet sockets.
    """

    __slots__ = ("_socket",)

    def __init__(self, index: int, ethertype: EtherType, *, answers: bool = False) -> None:
        if answers:
            checks = answer_checks(ethertype)
        else:
            checks = arp_checks() if ethertype == EtherType.ARP else ndp_checks()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            attach_filter(self._socket, filter_program(index, checks))
            _enlarge_queue(self._socket)
            self._bind(index, ethertype)
        except BaseException:
            self._socket.close()
            raise

    def _bind(self, index: int, ethertype: EtherType) -> None:
        """Bind by name, the only way Python has, and see that a rename did not interfere."""
        name = socket.if_indextoname(index)
        self._socket.bind((name, ethertype))
        if socket.if_nametoindex(self._socket.getsockname()[0]) != index:
            raise OSError(errno.ENODEV, f"{name} was renamed")

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    def receive(self) -> bytes | None:
        """The next frame, or None when none waits.

        Raises:
            OSError: the interface is down or gone; a later call may succeed when it is back.
        """
        try:
            return self._socket.recv(_FRAME_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, frame: bytes) -> None:
        """Send a frame on the interface.

        Raises:
            OSError: the interface is down or gone, or its queue is full.
        """
        self._socket.send(frame)

    def hear_every_group(self) -> None:
        """Have the network card pass every multicast frame: the way out where groups run short.

        Raises:
            OSError: the interface is gone.
        """
        index = socket.if_nametoindex(self._socket.getsockname()[0])
        # struct packet_mreq: interface, kind, length of the address, address
        wanted = struct.pack("=iHH8x", index, _PACKET_MR_ALLMULTI, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, wanted)

    def close(self) -> None:
        """Hear and send nothing any more."""
        self._socket.close()


class GroupMembership:
    """The solicited-node groups joined on one interface, each for as long as an address needs it.

    The kernel bounds the groups of one socket by memory (net.core.optmem_max), so more sockets are
    opened as groups are added.
    """

    __slots__ = ("_addresses", "_groups", "_index", "_sockets")

    def __init__(self, index: int) -> None:
        self._index = index
        self._sockets: list[socket.socket] = []
        self._groups: dict[Address, socket.socket] = {}
        self._addresses: dict[Address, set[Address]] = {}

    def add(self, address: Address) -> None:
        """Be in the group of an address from now on.

        Raises:
            OSError: the interface is gone or has no IPv6, or there is no room for more groups.
        """
        group = solicited_node(address)
        if group not in self._groups:
            self._groups[group] = self._join(group)
        self._addresses.setdefault(group, set()).add(address)

    def discard(self, address: Address) -> None:
        """Leave the group of an address unless another address needs it; unknown is no error."""
        group = solicited_node(address)
        addresses = self._addresses.get(group)
        if addresses is None:
            return
        addresses.discard(address)
        if not addresses:
            del self._addresses[group]
            # An interface that is gone, or lost its IPv6, has left its groups already.
            with contextlib.suppress(OSError):
                self._set(self._groups.pop(group), socket.IPV6_LEAVE_GROUP, group)

    def _join(self, group: Address) -> socket.socket:
        for sock in reversed(self._sockets):
            try:
                self._set(sock, socket.IPV6_JOIN_GROUP, group)
            except OSError as error:
                if error.errno not in (errno.ENOMEM, errno.ENOBUFS):
                    raise
            else:
                return sock
        if len(self._sockets) >= L2_GROUP_SOCKETS_MAX:
            raise OSError(errno.ENOBUFS, f"{len(self._groups)} groups are joined already")
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            self._set(sock, socket.IPV6_JOIN_GROUP, group)
        except OSError:
            sock.close()
            raise
        self._sockets.append(sock)
        return sock

    def close(self) -> None:
        """Leave every group."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        self._groups.clear()
        self._addresses.clear()

    def _set(self, sock: socket.socket, option: int, group: Address) -> None:
        sock.setsockopt(socket.IPPROTO_IPV6, option, group.packed + struct.pack("@I", self._index))


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Have the kernel pass only what a classic BPF program accepts."""
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of 8-byte instructions, and where they are.
    descriptor = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)
