"""Network interfaces as the kernel tells of them, by events and never by polling.

The only importer of pyroute2. Its traps are kept inside: a namespace other than the process's own
is never asked for (that forks), the iteration over events ends after each batch, and a socket that
lost events (ENOBUFS) is replaced and everything is read anew.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import rtnl
from pyroute2.netlink.exceptions import NetlinkDecodeError, NetlinkError

from clarion.base.addr import Address, parse_address
from clarion.base.errors import InvalidInputError
from clarion.proto.l2.interfaces import Interface

# include/uapi/linux/if.h and if_arp.h
_IFF_UP: Final = 0x1
_IFF_BROADCAST: Final = 0x2
_IFF_LOOPBACK: Final = 0x8
_IFF_NOARP: Final = 0x80
_IFF_LOWER_UP: Final = 0x10000
_ARPHRD_ETHER: Final = 1
# include/uapi/linux/if_addr.h: being tested, or found in use by another station
_IFA_F_DADFAILED: Final = 0x08
_IFA_F_TENTATIVE: Final = 0x40

_GROUPS: Final = rtnl.RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR
_AF_INET6: Final = 10
_REOPEN_SECONDS: Final = 0.2


class _Link:
    """What was last heard of one interface."""

    __slots__ = ("addresses", "flags", "kind", "mac", "master", "name")

    def __init__(self) -> None:
        self.name = ""
        self.mac = b""
        self.flags = 0
        self.kind = 0
        self.master = 0
        self.addresses: dict[Address, int] = {}
        """Each address with its IFA_F flags."""


class LinkMonitor:
    """Follows every interface of this network namespace.

    Args:
        on_change: Called with every interface, ordered by index, when something changed.
        on_restart: Called with the cause when events were lost and all was read anew.
    """

    def __init__(
        self,
        on_change: Callable[[tuple[Interface, ...]], None],
        on_restart: Callable[[str], None],
    ) -> None:
        self._on_change = on_change
        self._on_restart = on_restart
        self._links: dict[int, _Link] = {}
        self._last: tuple[Interface, ...] | None = None

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        while True:
            try:
                await self._follow()
            except (OSError, NetlinkError, NetlinkDecodeError) as error:
                self._on_restart(f"netlink: {error}")
                await asyncio.sleep(_REOPEN_SECONDS)

    async def _follow(self) -> None:
        async with AsyncIPRoute() as route:
            # Events are subscribed to before the state is read, so that no change falls between.
            await route.bind(groups=_GROUPS)
            self._links = {}
            async for message in await route.link("dump"):
                self._hear(message)
            async for message in await route.addr("dump"):
                self._hear(message)
            self._publish()
            while True:
                heard = 0
                async for message in route.get():
                    self._hear(message)
                    heard += 1
                if not heard:
                    raise OSError(errno.ECONNRESET, "the socket was closed")
                self._publish()
                # A queue that never runs empty must not keep the packet sockets waiting.
                await asyncio.sleep(0)

    def _publish(self) -> None:
        current = tuple(
            _interface(index, link) for index, link in sorted(self._links.items()) if link.name
        )
        if current != self._last:
            self._last = current
            self._on_change(current)

    def _hear(self, message: Any) -> None:
        match message["header"]["type"]:
            case rtnl.RTM_NEWLINK:
                self._hear_link(message)
            case rtnl.RTM_DELLINK:
                # A bridge tells with its own family that a port left; the interface itself lives.
                if message["family"] == 0 and self._links.pop(message["index"], None):
                    # Told at once: it may come back under the same index in this very batch, and
                    # sockets that were bound to it are dead all the same.
                    self._publish()
            case rtnl.RTM_NEWADDR | rtnl.RTM_DELADDR:
                self._hear_address(message)

    def _hear_link(self, message: Any) -> None:
        if message["family"] != 0:
            return
        link = self._links.setdefault(message["index"], _Link())
        link.name = message.get_attr("IFLA_IFNAME") or link.name
        address = message.get_attr("IFLA_ADDRESS")
        link.mac = bytes.fromhex(address.replace(":", "")) if address else b""
        link.flags = message["flags"]
        link.kind = message["ifi_type"]
        link.master = message.get_attr("IFLA_MASTER") or 0

    def _hear_address(self, message: Any) -> None:
        # On a point-to-point link IFA_ADDRESS is the peer; IFA_LOCAL is ours where it is there.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        link = self._links.get(message["index"])
        if link is None or not text:
            return
        try:
            address = parse_address(text)
        except InvalidInputError:
            return
        if message["header"]["type"] == rtnl.RTM_DELADDR:
            link.addresses.pop(address, None)
        else:
            link.addresses[address] = message.get_attr("IFA_FLAGS") or message["flags"]


def _interface(index: int, link: _Link) -> Interface:
    unfit = _IFA_F_TENTATIVE | _IFA_F_DADFAILED
    usable = sorted(a for a, flags in link.addresses.items() if not flags & unfit)
    # A tentative one shows that IPv6 is spoken here; nothing is sent from it.
    local = sorted(
        address
        for address, flags in link.addresses.items()
        if address.version == 6 and address.is_link_local and not flags & _IFA_F_DADFAILED
    )
    return Interface(
        index=index,
        name=link.name,
        mac=link.mac,
        up=bool(link.flags & _IFF_UP),
        carrier=bool(link.flags & _IFF_LOWER_UP),
        broadcast=bool(link.flags & _IFF_BROADCAST),
        noarp=bool(link.flags & _IFF_NOARP),
        loopback=bool(link.flags & _IFF_LOOPBACK),
        ethernet=link.kind == _ARPHRD_ETHER,
        master=link.master,
        link_local=local[0] if local else None,
        addresses=tuple(address for address in usable if address not in local),
    )
