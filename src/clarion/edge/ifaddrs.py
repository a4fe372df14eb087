"""Which addresses of this host share an interface: next hops of the other IP version.

One request to the kernel (rtnetlink RTM_GETADDR) per new connection; nothing is kept, so nothing
can be out of date.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final

import msgspec

from clarion.base.addr import Address

_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_FLAGS: Final = 8
_SCOPE_UNIVERSE: Final = 0
# Temporary, failed detection, deprecated, tentative: not addresses to send traffic to.
_UNFIT: Final = 0x01 | 0x08 | 0x20 | 0x40
_HEADER: Final = struct.Struct("=IHHII")
_IFADDR: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


class InterfaceAddress(msgspec.Struct, frozen=True):
    """One address, the index of its interface, and whether others may be told to use it."""

    index: int
    address: Address
    usable: bool


def interface_addresses() -> list[InterfaceAddress]:
    """All addresses of this network namespace, in the kernel's order.

    Raises:
        OSError: the kernel does not answer.
    """
    request = _HEADER.pack(_HEADER.size + _IFADDR.size, _RTM_GETADDR, _REQUEST_DUMP, 1, 0)
    found: list[InterfaceAddress] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(1.0)
        sock.send(request + _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            for kind, body in _messages(sock.recv(1 << 16)):
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return found
                if kind == _RTM_NEWADDR:
                    found.extend(_read(body))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        yield kind, data[position + _HEADER.size : position + length]
        position += (max(length, _HEADER.size) + 3) & ~3


def _read(body: bytes) -> Iterator[InterfaceAddress]:
    _family, _length, flags, scope, index = _IFADDR.unpack_from(body)
    attributes: dict[int, bytes] = {}
    position = _IFADDR.size
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        attributes[kind] = body[position + _ATTRIBUTE.size : position + length]
        position += (max(length, _ATTRIBUTE.size) + 3) & ~3
    if _IFA_FLAGS in attributes:
        flags = int.from_bytes(attributes[_IFA_FLAGS], sys.byteorder)
    # On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if packed is not None:
        usable = scope == _SCOPE_UNIVERSE and not flags & _UNFIT
        yield InterfaceAddress(index, Address.from_packed(packed), usable)


def companions(local: Address, known: list[InterfaceAddress]) -> dict[int, Address]:
    """By IP version, the first usable address on the interface that has `local`; itself first."""
    found: dict[int, Address] = {}
    for home in known:
        if home.address == local:
            found = {
                row.address.version: row.address
                for row in reversed(known)
                if row.index == home.index and row.usable
            }
            break
    if not local.is_link_local:
        found[local.version] = local
    return found
