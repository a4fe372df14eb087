"""The UDP sockets of BFD: one that hears per kind of session, one that sends per session.

Packets for all sessions of an IP version, a number of hops and a VRF arrive at one port, from
whatever port the other side chose; they are told apart by what `proto.bfd.demux` reads. Each
session sends from a port of its own (RFC 5881 §4).
"""

import contextlib
import errno
import random
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from clarion.base.addr import Address
from clarion.base.limits import BFD_SOURCE_PORTS_TRIED
from clarion.proto.bfd.demux import (
    MULTIHOP_PORT,
    SINGLE_HOP_PORT,
    SOURCE_PORTS,
    TTL,
    Arrival,
    Endpoint,
)
from clarion.proto.bfd.echo import CLASS_SELECTOR_6

# Linux socket options that the standard library does not name.
_IP_PKTINFO: Final = 8
_IP_RECVTTL: Final = 12
_SO_PRIORITY: Final = 12
_PRIORITIES: Final = (7, 6)
"""Control traffic; 7 needs CAP_NET_ADMIN, 6 is the highest that does not."""
_IN_PKTINFO: Final = struct.Struct("=i4s4s")
_IN6_PKTINFO: Final = struct.Struct("=16si")
_INT: Final = struct.Struct("=i")
_DATAGRAM: Final = 512
_CONTROL: Final = socket.CMSG_SPACE(_IN6_PKTINFO.size) + socket.CMSG_SPACE(_INT.size)

_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def _socket(version: int, device: str) -> socket.socket:
    sock = socket.socket(_FAMILY[version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return sock


class Listener:
    """Hears the Control packets of one IP version, number of hops and VRF.

    Args:
        version: 4 or 6.
        multihop: The port of RFC 5883 instead of that of RFC 5881.
        vrf: Device of the VRF, empty for the default one.
        beside: The other listeners of this process: they may have the port at the same time, on
            other devices. Nobody else may, and that is found out here.

    Raises:
        OSError: the port is taken, the device is missing, or IPv6 is.
    """

    def __init__(
        self, version: int, *, multihop: bool, vrf: str, beside: Iterable["Listener"] = ()
    ) -> None:
        self._version = version
        self._multihop = multihop
        self._vrf = vrf
        port = MULTIHOP_PORT if multihop else SINGLE_HOP_PORT
        self.socket = _socket(version, vrf)
        mine = [self.socket, *(other.socket for other in beside)]
        try:
            self._ask_for_facts()
            # The port is shared only while this one is bound, and only among our own sockets.
            if len(mine) > 1:
                _share(mine, on=True)
            self.socket.bind(("", port))
        except OSError:
            self.socket.close()
            mine.remove(self.socket)
            raise
        finally:
            _share(mine, on=False)

    def _ask_for_facts(self) -> None:
        if self._version == 4:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self.socket.fileno()

    def receive(self, names: Mapping[int, str]) -> tuple[bytes, Arrival] | None:
        """The next packet and how it came, or None when none waits.

        Args:
            names: The interfaces by index.
        """
        try:
            data, control, _, source = self.socket.recvmsg(_DATAGRAM, _CONTROL)
        except OSError:  # none waits, or an error that an earlier packet of another socket caused
            return None
        ttl, index, destination = 0, 0, b""
        for level, kind, value in control:
            if level == socket.IPPROTO_IP and kind == socket.IP_TTL:
                (ttl,) = _INT.unpack(value)
            elif level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                index, _, destination = _IN_PKTINFO.unpack(value)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
                (ttl,) = _INT.unpack(value)
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                destination, index = _IN6_PKTINFO.unpack(value)
        if not destination:
            return None
        packed = socket.inet_pton(_FAMILY[self._version], source[0].partition("%")[0])
        arrival = Arrival(
            source=Address.from_packed(packed),
            destination=Address.from_packed(destination),
            ttl=ttl,
            interface=names.get(index, ""),
            vrf=self._vrf,
            multihop=self._multihop,
        )
        return data, arrival

    def close(self) -> None:
        """Hear nothing any more."""
        self.socket.close()


def _share(sockets: Iterable[socket.socket], *, on: bool) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(on))


class Sender:
    """Sends the Control packets of one session, from the same port always (RFC 5881 §4).

    Args:
        endpoint: Where to.
        port: The source port that the session had before, 0 for a random one.

    Raises:
        OSError: the local address or the device is not there.
    """

    def __init__(self, endpoint: Endpoint, port: int = 0) -> None:
        version = endpoint.remote.version
        self._socket = _socket(version, endpoint.device)
        try:
            self._mark(version)
            scope = socket.if_nametoindex(endpoint.interface) if endpoint.interface else 0
            suffix = (0, scope) if version == 6 else ()
            local = "" if endpoint.local is None else str(endpoint.local)
            if version == 6 and not (endpoint.local and endpoint.local.is_link_local):
                self._bind(local, (), port)
            else:
                self._bind(local, suffix, port)
        except OSError:
            self._socket.close()
            raise
        self._target = (str(endpoint.remote), endpoint.port, *suffix)

    def _mark(self, version: int) -> None:
        """TTL 255 (RFC 5881 §5), DSCP CS6, and the priority of control traffic on our queues."""
        sock = self._socket
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CLASS_SELECTOR_6)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CLASS_SELECTOR_6)
        for priority in _PRIORITIES:  # after the TOS, which sets it too
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_PRIORITY, priority)
                break
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # nothing is received here

    def _bind(self, local: str, suffix: tuple[int, ...], port: int) -> None:
        ports = random.SystemRandom().sample(SOURCE_PORTS, BFD_SOURCE_PORTS_TRIED)
        for candidate in [port, *ports] if port else ports:
            try:
                self._socket.bind((local, candidate, *suffix))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
        raise OSError(errno.EADDRINUSE, "no source port from 49152 to 65535 is free")

    @property
    def port(self) -> int:
        """The source port."""
        return int(self._socket.getsockname()[1])

    def send(self, packet: bytes) -> None:
        """Send a packet.

        Raises:
            OSError: there is no way to the other side now.
        """
        self._socket.sendto(packet, self._target)

    def close(self) -> None:
        """Send nothing any more."""
        self._socket.close()
