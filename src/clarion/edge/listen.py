"""Addresses to listen on: as users write them, who holds one already, and what to do then."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from clarion.base.errors import ClarionError, InvalidInputError

_LISTEN = "0A"  # TCP_LISTEN in the state column of /proc/net/tcp


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[V6]:PORT` or `:PORT` (all addresses).

    Raises:
        InvalidInputError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidInputError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def cannot_listen(listen: str, error: OSError, flag: str) -> ClarionError:
    """The error for an address that cannot be bound: why, who holds it, and the flag to change.

    Args:
        listen: The address as the user gave it.
        error: What the kernel said.
        flag: The flag with which another address is given.
    """
    # asyncio tells the whole story in `strerror`; that of the number is short. Resolving a name
    # has numbers of its own, below zero.
    number = error.errno or 0
    why = os.strerror(number) if number > 0 else error.strerror or str(error)
    if error.errno != errno.EADDRINUSE:
        return ClarionError(f"cannot listen on {listen}: {why}", f"give another {flag}")
    holders = ", ".join(holders_of(parse_listen(listen)[1]))
    held = f", held by {holders}" if holders else ""
    remedy = f"stop the program that holds it, or give another {flag}"
    return ClarionError(f"cannot listen on {listen}: {why}{held}", remedy)


def check_free(listen: str, flag: str) -> None:
    """Find out whether an address can be listened on, and leave it free.

    Raises:
        InvalidInputError: it is no address.
        ClarionError: it cannot.
    """
    host, port = parse_listen(listen)
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as sock:
                # As a server does: connections of an earlier one that linger are no obstacle.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen()
    except OSError as error:
        raise cannot_listen(listen, error, flag) from None


def holders_of(port: int) -> list[str]:
    """`NAME (pid N)` of each process that listens on a TCP port, as far as this user may see."""
    inodes = set(_listeners(port))
    found = []
    for folder in Path("/proc").glob("[0-9]*") if inodes else ():
        # A process may end, and those of other users may be closed to us.
        with contextlib.suppress(OSError):
            if any(_inode(entry) in inodes for entry in (folder / "fd").iterdir()):
                found.append(f"{(folder / 'comm').read_text().strip()} (pid {folder.name})")
    return sorted(found)


def _listeners(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on a port, in this network namespace (proc(5))."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def _inode(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""
