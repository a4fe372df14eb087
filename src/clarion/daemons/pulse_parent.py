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
        silent: Called PULSE_ORPHAN_SECONDS after the last sign of life, and when a parent that is
            silent for so long turns out to be dead.
    """

    def __init__(
        self, sock: socket.socket, hear: Callable[[ToPulse], None], silent: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hear = hear
        self._silent = silent
        self._channel: Channel[ToPulse, FromPulse] = Channel(
            sock, ToPulse, self._heard, self._closed
        )
        self.gone = False
        """The other end of the pipe is closed: the parent is dead, not merely silent."""
        self._last_heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the parent to read."""
        return self._channel.unsent

    def send(self, message: FromPulse) -> None:
        """Tell the parent; one that has not read for very long will not send either."""
        try:
            self._channel.send(message)
        except ChannelFullError:
            self._loop.call_soon(self._closed, "it does not read")

    def notify(
        self, code: NoticeCode, text: str, interface: str | None = None, address: str | None = None
    ) -> None:
        """Tell of something that a user should hear of, while the parent reads."""
        if self._channel.unsent < PULSE_NOTICES_UNSENT_BYTES_MAX:
            self.send(Notice(code, text, interface, address))

    def close(self) -> None:
        """Neither hear nor tell anything any more."""
        self.gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._channel.close()

    def _heard(self, message: ToPulse) -> None:
        self._last_heard = self._loop.time()
        if self._timer is None:
            self._watch()
        self._hear(message)

    def _closed(self, _cause: str) -> None:
        self.gone = True
        if self._timer is None:
            self._silent()

    def _watch(self) -> None:
        deadline = self._last_heard + PULSE_ORPHAN_SECONDS
        if self._loop.time() < deadline:
            self._timer = self._loop.call_at(deadline, self._watch)
        else:
            self._timer = None
            self._silent()
