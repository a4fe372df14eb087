"""TCP sockets as BGP wants them: non-blocking, signed (RFC 2385), bound, with a TTL (RFC 5082).

Sockets are returned ready for an event loop; nothing here waits.
"""

import errno
import os
import socket
import struct
from typing import Final

import msgspec

from clarion.base.addr import Address, Prefix, parse_address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_LISTEN_BACKLOG, TCP_MD5_KEY_BYTES_MAX

# Linux numbers that the socket module does not name.
_TCP_MD5SIG: Final = 14
_TCP_MD5SIG_EXT: Final = 32
_MD5SIG_PREFIX: Final = 1
_TCP_NOTSENT_LOWAT: Final = 25
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_DSCP_CS6: Final = 0xC0  # network control, as routers mark their own protocols (RFC 4594 §3.2)


class TcpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How packets of a connection leave and arrive.

    Attributes:
        ttl: TTL or hop limit of what we send; 0 for the system's.
        min_ttl: Least TTL or hop limit accepted (RFC 5082 §3); 0 for any.
        interface: Device to bind to; empty for none.
    """

    ttl: int = 0
    min_ttl: int = 0
    interface: str = ""


def check_password(password: str) -> None:
    """Refuse a key that the kernel cannot hold.

    Raises:
        InvalidInputError: longer than 80 octets.
    """
    if len(password.encode()) > TCP_MD5_KEY_BYTES_MAX:
        raise InvalidInputError(f"a TCP MD5 password has at most {TCP_MD5_KEY_BYTES_MAX} octets")


def set_md5_key(sock: socket.socket, peer: Address | Prefix, password: str) -> None:
    """Sign and demand signatures on connections with `peer` (RFC 2385); empty removes the key.

    Works on a listener, for connections yet to come, and on a socket not yet connected.

    Raises:
        InvalidInputError: the password is too long.
        OSError: the kernel refuses, for example because it has no TCP MD5.
    """
    check_password(password)
    key = password.encode()
    name, flags, length = _TCP_MD5SIG, 0, 0
    if isinstance(peer, Prefix):
        name, flags, length, peer = _TCP_MD5SIG_EXT, _MD5SIG_PREFIX, peer.length, peer.network
    if peer.version == 4:
        address = struct.pack("=HH4s", socket.AF_INET, 0, peer.packed)
    else:
        address = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, peer.packed, 0)
    option = struct.pack("=128sBBHi80s", address, flags, length, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, name, option)
    except OSError as error:
        if key or error.errno != errno.ENOENT:  # removing what is not there is fine
            raise


def configure(sock: socket.socket, version: int, options: TcpOptions) -> None:
    """Set the options of a connection, on a new socket or an accepted one.

    Raises:
        OSError: the kernel refuses, for example an interface that does not exist.
    """
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Writable means that little is waiting: what is not in the kernel can still be superseded.
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, BGP_CHUNK_BYTES)
    _bind_device(sock, options.interface)
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _DSCP_CS6)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _DSCP_CS6)
    set_hops(sock, version, options)


def _bind_device(sock: socket.socket, device: str) -> None:
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(device))


def set_hops(sock: socket.socket, version: int, options: TcpOptions) -> None:
    """Set how far packets travel; on a listener it holds for the handshake.

    An accepted connection begins with what its listener has, so nothing is left as it is.

    Raises:
        OSError: the kernel refuses.
    """
    ttl = options.ttl or -1  # the system's
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, options.min_ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, options.min_ttl)


def dial(
    remote: Address,
    port: int,
    *,
    source: Address | None = None,
    password: str = "",
    options: TcpOptions,
) -> socket.socket:
    """Begin to connect. The socket becomes writable when the attempt ends; ask `dial_error` then.

    Raises:
        OSError: the attempt cannot even begin: no route, source address not on this host.
        InvalidInputError: the password is too long.
    """
    sock = socket.socket(_FAMILIES[remote.version], socket.SOCK_STREAM)
    try:
        configure(sock, remote.version, options)
        if password:
            set_md5_key(sock, remote, password)
        if source is not None:
            sock.bind(_sockaddr(source, 0, options.interface))
        sock.connect(_sockaddr(remote, port, options.interface))
    except BlockingIOError:
        return sock
    except BaseException:  # the socket must not outlive any failure; nothing is swallowed
        sock.close()
        raise
    return sock


def _sockaddr(address: Address, port: int, interface: str) -> tuple[str | int, ...]:
    if address.version == 6 and address.is_link_local and interface:
        # RFC 4007 §6: the address alone is ambiguous
        return (str(address), port, 0, socket.if_nametoindex(interface))
    return (str(address), port)


def dial_error(sock: socket.socket) -> str:
    """Why an attempt to connect failed, in words; empty when it succeeded."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(code) if code else ""


def listen(
    version: int,
    port: int,
    address: Address | None = None,
    *,
    device: str = "",
    beside: bool = False,
) -> socket.socket:
    """A listener for one IP version, on all addresses unless one is given.

    Args:
        version: IP version.
        port: Where to listen.
        address: The only local address to listen on.
        device: The only interface or VRF to listen on.
        beside: Other listeners of this process on the port are no obstacle; the kernel hands a
            connection to the one of its device. For a process of the same user, neither are they.

    Raises:
        OSError: the port is taken or needs privileges, or the family is not available.
    """
    sock = socket.socket(_FAMILIES[version], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, beside)
        _bind_device(sock, device)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        anywhere = "::" if version == 6 else "0.0.0.0"  # noqa: S104 - peers reach any address
        sock.bind((str(address) if address else anywhere, port))
        sock.listen(BGP_LISTEN_BACKLOG)
        # Only now, when the port was found free of others: our next listener may share it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:  # the socket must not outlive any failure; nothing is swallowed
        sock.close()
        raise
    return sock


def local_name(sock: socket.socket) -> tuple[Address, int]:
    """Local address and port of a connected socket.

    Raises:
        OSError: the connection is gone already.
    """
    return name_of(sock.getsockname())


def remote_name(sock: socket.socket) -> tuple[Address, int]:
    """Remote address and port of a connected socket.

    Raises:
        OSError: the connection is gone already.
    """
    return name_of(sock.getpeername())


def scope_of(sock: socket.socket) -> int:
    """The index of the interface on which a connected socket has its link-local peer; else 0.

    Raises:
        OSError: the connection is gone already.
    """
    sockaddr = sock.getpeername()
    return int(sockaddr[3]) if len(sockaddr) > 2 else 0


def name_of(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> tuple[Address, int]:
    """A socket address as an address without zone, and port."""
    return parse_address(sockaddr[0].partition("%")[0]), sockaddr[1]
