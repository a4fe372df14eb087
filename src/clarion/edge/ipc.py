"""Messages between a daemon and its child process: MessagePack in length-framed pieces on a socket.

Each message is a tagged struct of a closed union, so that what arrives is checked while it is
decoded. Both directions are bounded: a message by IPC_MESSAGE_BYTES_MAX, what waits to be sent by
IPC_UNSENT_BYTES_MAX.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from clarion.base.errors import ClarionError
from clarion.base.limits import IPC_MESSAGE_BYTES_MAX, IPC_UNSENT_BYTES_MAX

In = TypeVar("In")
Out = TypeVar("Out", bound=msgspec.Struct)

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on bytes that are no message: deep nesting ends in the last of them."""
_LENGTH = struct.Struct("!I")
_READ_BYTES = 1 << 16


class ChannelFullError(ClarionError):
    """A bound of the channel is reached, mostly because the other side does not read."""


class Channel(Generic[In, Out]):
    """One end of the conversation, owned by the running event loop.

    `on_message` is called for each message, `on_closed` once with the cause in words when the other
    side is gone or breaks the framing; after that nothing is received and sending has no effect.
    """

    def __init__(
        self,
        sock: socket.socket,
        message_type: Any,
        on_message: Callable[[In], None],
        on_closed: Callable[[str], None],
    ) -> None:
        """Args: message_type: the union of what is received: `In`, as a value for the decoder."""
        sock.setblocking(False)
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(message_type)
        self._encoder = msgspec.msgpack.Encoder()
        self._on_message = on_message
        self._on_closed = on_closed
        self._received = bytearray()
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(sock, self._readable)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the other side to read."""
        return len(self._unsent)

    def send(self, message: Out) -> None:
        """Send a message, or keep it until the other side reads.

        Raises:
            ChannelFullError: it is too large or too much is waiting; the message is not sent.
        """
        if not self._open:
            return
        body = self._encoder.encode(message)
        if len(body) > IPC_MESSAGE_BYTES_MAX:
            raise ChannelFullError(f"a message of {len(body)} bytes")
        if len(self._unsent) + len(body) > IPC_UNSENT_BYTES_MAX:
            raise ChannelFullError(
                f"{len(self._unsent)} bytes wait for a process that does not read"
            )
        idle = not self._unsent
        self._unsent += _LENGTH.pack(len(body)) + body
        if idle:
            self._writable()

    def close(self) -> None:
        """Let go of the socket; `on_closed` is not called."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def _fail(self, cause: str) -> None:
        if self._open:
            self.close()
            self._on_closed(cause)

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            # The caller is in the middle of something; the news reach it from the loop.
            self._loop.call_soon(self._fail, f"writing: {error.strerror}")
            self._unsent.clear()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._sock, self._writable)
        else:
            self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(f"reading: {error.strerror}")
            return
        if not data:
            self._fail("closed by the other side")
            return
        self._received += data
        self._take_messages()

    def _take_messages(self) -> None:
        start = 0
        while self._open and len(self._received) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._received, start)
            if length > IPC_MESSAGE_BYTES_MAX:
                self._fail(f"a message of {length} bytes")
                return
            end = start + _LENGTH.size + length
            if len(self._received) < end:
                break
            try:
                message = self._decoder.decode(bytes(self._received[start + _LENGTH.size : end]))
            except UNREADABLE as error:
                self._fail(f"a message that is none: {error}")
                return
            start = end
            self._on_message(message)
        del self._received[:start]
