"""Addresses and interfaces of this host, asked when they are needed; and word that they changed.

Nothing is kept, so nothing can be out of date: `interface_addresses` and `interface_state` ask the
kernel at the moment, and `InterfaceWatch` only says that it is time to ask again.
"""

import asyncio
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Final

import msgspec

from clarion.base.addr import Address

_RTM_NEWLINK: Final = 16
_RTM_GETLINK: Final = 18
_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
_IFLA_MASTER: Final = 10
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_SCOPE_UNIVERSE: Final = 0
# Failed detection, tentative: not, or not yet, an address of this host.
_UNTRIED: Final = 0x08 | 0x40
# Temporary, deprecated: not addresses to send traffic to.
_PASSING: Final = 0x01 | 0x20
_HEADER: Final = struct.Struct("=IHHII")
_IFINFO: Final = struct.Struct("=BxHiII")
_IFADDR: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")

_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_IFREQ: Final = struct.Struct("=16sH22x")
_IFREQ_MAC: Final = slice(18, 24)
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_ARPHRD_ETHER: Final = 1


class InterfaceAddress(msgspec.Struct, frozen=True):
    """One address, the index of its interface, and what it is good for.

    `usable`: others may be told to use it. `ready`: connections can begin from it.
    """

    index: int
    address: Address
    usable: bool
    ready: bool = True


class InterfaceState(msgspec.Struct, frozen=True):
    """An interface now: its index, whether it can pass packets, and its Ethernet address if any."""

    index: int
    running: bool
    mac: bytes


def interface_addresses() -> list[InterfaceAddress]:
    """All addresses of this network namespace, in the kernel's order.

    Raises:
        OSError: the kernel does not answer.
    """
    found: list[InterfaceAddress] = []
    for body in _dump(_RTM_GETADDR, _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWADDR):
        found.extend(_read(body))
    return found


def interface_state(name: str) -> InterfaceState | None:
    """An interface by its name; None if there is none."""
    try:
        index = socket.if_nametoindex(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            request = _IFREQ.pack(os.fsencode(name), 0)
            (_, flags) = _IFREQ.unpack(fcntl.ioctl(sock, _SIOCGIFFLAGS, request))
            hardware = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)
    except OSError:  # it is gone, before or between the questions
        return None
    (_, kind) = _IFREQ.unpack(hardware)
    return InterfaceState(
        index=index,
        running=flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING,
        mac=hardware[_IFREQ_MAC] if kind == _ARPHRD_ETHER else b"",
    )


def device_indexes(device: str) -> set[int]:
    """The indexes of an interface and of those that belong to it, as to a VRF.

    Raises:
        OSError: there is no such interface, or the kernel does not answer.
    """
    index = socket.if_nametoindex(device)
    found = {index}
    for body in _dump(_RTM_GETLINK, _IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWLINK):
        master = _attributes(body, _IFINFO.size).get(_IFLA_MASTER, b"")
        if int.from_bytes(master, sys.byteorder) == index:
            found.add(_IFINFO.unpack_from(body)[2])
    return found


def _dump(request: int, body: bytes, answer: int) -> Iterator[bytes]:
    head = _HEADER.pack(_HEADER.size + len(body), request, _REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)
        sock.send(head + body)
        while True:
            for kind, piece in _messages(sock.recv(1 << 16)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return
                if kind == answer:
                    yield piece


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        yield kind, data[position + _HEADER.size : position + length]
        position += (max(length, _HEADER.size) + 3) & ~3


def _attributes(body: bytes, position: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        found[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += (max(length, _ATTRIBUTE.size) + 3) & ~3
    return found


def _read(body: bytes) -> Iterator[InterfaceAddress]:
    _family, _length, flags, scope, index = _IFADDR.unpack_from(body)
    attributes = _attributes(body, _IFADDR.size)
    if _IFA_FLAGS in attributes:
        flags = int.from_bytes(attributes[_IFA_FLAGS], sys.byteorder)
    # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is not None:
        usable = scope == _SCOPE_UNIVERSE and not flags & (_UNTRIED | _PASSING)
        yield InterfaceAddress(index, Address.from_packed(packed), usable, not flags & _UNTRIED)


def companions(
    local: Address, known: list[InterfaceAddress], among: Collection[int] | None = None
) -> dict[int, Address]:
    """By IP version, the first usable address on the interface that has `local`; itself first.

    Args:
        local: An address of this host.
        known: All of them.
        among: Indexes of the interfaces that may be meant; None for all. Two VRFs may have the same
            address, and all interfaces may have the same link-local one.
    """
    found: dict[int, Address] = {}
    for home in known:
        if home.address == local and (among is None or home.index in among):
            found = {
                row.address.version: row.address
                for row in reversed(known)
                if row.index == home.index and row.usable
            }
            break
    if not local.is_link_local:
        found[local.version] = local
    return found


class InterfaceWatch:
    """Calls `on_change` from the running loop after interfaces or their addresses changed.

    Raises:
        OSError: the kernel refuses the subscription.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            self._sock.bind((0, _GROUPS))
        except BaseException:  # the socket must not outlive any failure; nothing is swallowed
            self._sock.close()
            raise
        self._loop.add_reader(self._sock, self._ready)

    def _ready(self) -> None:
        # What happened is not read: events may be lost (ENOBUFS), the state is asked for anyway.
        try:
            while self._sock.recv(1 << 16):
                pass
        except OSError:  # nothing more waits, or some were lost
            pass
        self._on_change()

    def close(self) -> None:
        """No more calls."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
