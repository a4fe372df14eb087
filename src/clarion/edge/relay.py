"""Hands what one process holds to the one that replaces it: an abstract Unix socket of a name.

Abstract names belong to the network namespace, as do the ports that change hands. Both sides must
be the same user; anybody could have taken the name first.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from clarion.base.limits import RELAY_BYTES_MAX, RELAY_SECONDS

_CREDENTIALS: Final = struct.Struct("=iII")


def _same_user(sock: socket.socket) -> bool:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(data)[1] == os.geteuid())


class Relay:
    """Waits for a successor.

    Args:
        name: Of what is handed over.
        give: Called when one asks: what it gets, after which it alone has it; empty to refuse.
    """

    def __init__(self, name: str, give: Callable[[], bytes]) -> None:
        self._path = f"\0{name}"
        self._give = give
        self._server: asyncio.Server | None = None

    async def offer(self) -> bool:
        """Be found under the name; False if another process is."""
        if self._server is None:
            try:
                self._server = await asyncio.start_unix_server(self._answer, self._path)
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Be found no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if _same_user(writer.get_extra_info("socket")):
            writer.write(self._give())
        writer.close()


async def take_over(name: str) -> bytes:
    """What a predecessor gives; empty if there is none, or if it goes on itself."""
    try:
        async with asyncio.timeout(RELAY_SECONDS):
            reader, writer = await asyncio.open_unix_connection(f"\0{name}")
            try:
                if not _same_user(writer.get_extra_info("socket")):
                    return b""
                return await _read(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(RELAY_BYTES_MAX):
        data += chunk
        if len(data) > RELAY_BYTES_MAX:
            return b""
    return bytes(data)
