"""The pulse process's view of its parent: the one channel that its parts share, and its death."""

import asyncio
import socket
from collections.abc import Callable

from clarion.base.limits import PULSE_NOTICES_UNSENT_BYTES_MAX, PULSE_ORPHAN_SECONDS
from clarion.edge.ipc import Channel, ChannelFullError
from clarion.proto.pulse.messages import FromPulse, Notice, NoticeCode, ToPulse


class Parent:
    """What the parts of the process tell the speaker, and whether it lives.

    Args:
        sock: The socket to the parent.
        hear: Called with each message.
        orphaned: Called once, PULSE_ORPHAN_SECONDS after the last sign of life.
    """

    def __init__(
        self, sock: socket.socket, hear: Callable[[ToPulse], None], orphaned: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._orphaned = orphaned
        self._channel: Channel[ToPulse, FromPulse] = Channel(
            sock, ToPulse, self._heard, self._closed
        )
        self.gone = False
        """The other end of the pipe is closed: the parent is dead, not merely silent."""
        self._last_heard = self._loop.time()
        self._timer = self._loop.call_later(PULSE_ORPHAN_SECONDS, self._watch)

    @property
    def unsent(self) -> int:
        """Bytes that wait for the parent to read."""
        return self._channel.unsent

    def send(self, message: FromPulse) -> None:
        """Tell the parent; one that has not read for very long will not send either."""
        try:
            self._channel.send(message)
        except ChannelFullError:
            self._loop.call_soon(self._orphaned)

    def notify(
        self, code: NoticeCode, text: str, interface: str | None = None, address: str | None = None
    ) -> None:
        """Tell of something that a user should hear of, while the parent reads."""
        if self._channel.unsent < PULSE_NOTICES_UNSENT_BYTES_MAX:
            self.send(Notice(code, text, interface, address))

    def close(self) -> None:
        """Neither hear nor tell anything any more."""
        self._timer.cancel()
        self._channel.close()

    def _heard(self, message: ToPulse) -> None:
        self._last_heard = self._loop.time()
        self._hear(message)

    def _closed(self, _cause: str) -> None:
        self.gone = True

    def _watch(self) -> None:
        deadline = self._last_heard + PULSE_ORPHAN_SECONDS
        if self._loop.time() >= deadline:
            self._orphaned()
        else:
            self._timer = self._loop.call_at(deadline, self._watch)
