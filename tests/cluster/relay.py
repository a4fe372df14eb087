"""A TCP relay out of a network namespace: PORT of its loopback leads to PORT of ours.

A socket stays in the namespace where it was made, so one process can listen there and dial here.
"""

import asyncio
import ctypes
import os
import socket
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if LIBC.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


def listener(namespace: Path, port: int) -> socket.socket:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(namespace)
    try:
        return socket.create_server(("127.0.0.1", port))
    finally:
        enter(Path(f"/proc/self/fd/{home}"))
        os.close(home)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(namespace: Path, port: int) -> None:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(join, sock=listener(namespace, port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
