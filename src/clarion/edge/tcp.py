"""TCP sockets as BGP wants them: non-blocking, signed (RFC 2385), bound, with a TTL (RFC 5082).

Sockets are returned ready for an event loop; nothing here waits.
"""

import errno
import os
import socket
import struct
from typing import Final

import msgspec

from clarion.base.addr import Address, parse_address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import BGP_CHUNK_BYTES, BGP_LISTEN_BACKLOG

# Linux numbers that the socket module does not name.
_TCP_MD5SIG: Final = 14
_TCP_NOTSENT_LOWAT: Final = 25
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_MD5_KEY_BYTES: Final = 80
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_DSCP_CS6: Final = 0xC0  # network control, as routers mark their own protocols (RFC 4594 §3.2)


class TcpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How packets of a connection leave and arrive.

    Attributes:
        ttl: TTL or hop limit of what we send; 0 leaves the system's.
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
    if len(password.encode()) > _MD5_KEY_BYTES:
        raise InvalidInputError(f"a TCP MD5 password has at most {_MD5_KEY_BYTES} octets")


def set_md5_key(sock: socket.socket, peer: Address, password: str) -> None:
    """Sign and demand signatures on connections with `peer` (RFC 2385); empty removes the key.

    Works on a listener, for connections yet to come, and on a socket not yet connected.

    Raises:
        InvalidInputError: the password is too long.
        OSError: the kernel refuses, for example because it has no TCP MD5.
    """
    check_password(password)
    key = password.encode()
    if peer.version == 4:
        address = struct.pack("=HH4s", socket.AF_INET, 0, peer.packed)
    else:
        address = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, peer.packed, 0)
    option = struct.pack("=128sBBHi80s", address, 0, 0, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, option)
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
    if options.interface:
        name = os.fsencode(options.interface)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _DSCP_CS6)
        if options.ttl:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, options.ttl)
        if options.min_ttl:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, options.min_ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _DSCP_CS6)
        if options.ttl:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, options.ttl)
        if options.min_ttl:
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
            sock.bind((str(source), 0))
        sock.connect((str(remote), port))
    except BlockingIOError:
        return sock
    except BaseException:  # the socket must not outlive any failure; nothing is swallowed
        sock.close()
        raise
    return sock


def dial_error(sock: socket.socket) -> str:
    """Why an attempt to connect failed, in words; empty when it succeeded."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(code) if code else ""


def listen(version: int, port: int, address: Address | None = None) -> socket.socket:
    """A listener for one IP version, on all addresses unless one is given.

    Raises:
        OSError: the port is taken or needs privileges, or the family is not available.
    """
    sock = socket.socket(_FAMILIES[version], socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        anywhere = "::" if version == 6 else "0.0.0.0"  # noqa: S104 - peers reach any address
        sock.bind((str(address) if address else anywhere, port))
        sock.listen(BGP_LISTEN_BACKLOG)
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


def name_of(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> tuple[Address, int]:
    """A socket address as an address without zone, and port."""
    return parse_address(sockaddr[0].partition("%")[0]), sockaddr[1]
