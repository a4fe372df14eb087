"""Whether the kernel reaches an address without a router in between: one request, nothing kept."""

import socket
import struct
from typing import Final

from clarion.base.addr import Address

_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_NLM_F_REQUEST: Final = 1
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_VIA: Final = 18
_HEADER: Final = struct.Struct("=IHHII")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANSWER_SECONDS: Final = 1.0


def on_link(address: Address, device: str = "") -> bool:
    """Whether packets to an address go to its own hardware address; False without any route.

    Args:
        address: Where to.
        device: The interface or the VRF's device to go out by, empty for any.
    """
    family, host = _FAMILY[address.version], len(address.packed) * 8
    body = _ROUTE.pack(family, host, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, address.packed)
    try:
        if device:
            body += _attribute(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(device)))
        head = _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.send(head + body)
            answer = sock.recv(1 << 16)
    except OSError:
        return False
    if _HEADER.unpack_from(answer)[1] != _RTM_NEWROUTE:
        return False
    return {_RTA_GATEWAY, _RTA_VIA}.isdisjoint(_kinds(answer[_HEADER.size + _ROUTE.size :]))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _kinds(data: bytes) -> set[int]:
    """The kinds of attribute in a message."""
    found: set[int] = set()
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found.add(kind)
        data = data[(max(length, _ATTRIBUTE.size) + 3) & ~3 :]
    return found
