"""`python -m clarion.daemons.pulse`: what must never wait for the speaker: ARP, NDP and BFD.

A process of its own, so that nothing the speaker does (decoding a long list, planning, a slow disk)
delays an answer. It goes on answering when the parent dies, until PULSE_ORPHAN_SECONDS after the
parent's last sign of life: by then the parent's replacement has started another one, or the other
nodes are about to take the addresses over. BFD sessions go on for as long as their peers may keep
the routes, or until the replacement takes them. Its parts stand beside one another and share the
loop, the channel to the parent and the view of the interfaces.
"""

import argparse
import asyncio
import gc
import signal
import socket
import sys
from typing import Any

from clarion.daemons.pulse_bfd import Bfd
from clarion.daemons.pulse_l2 import Layer2
from clarion.daemons.pulse_parent import Parent
from clarion.edge.netlink import LinkMonitor
from clarion.proto.l2.interfaces import Interface
from clarion.proto.pulse.messages import (
    ChangeTable,
    Configure,
    Echo,
    Heartbeat,
    NoticeCode,
    PulseExit,
    Resume,
    Silenced,
    Stop,
    ToPulse,
    WatchBfd,
)


class Pulse:
    """The process: the parts, and what they hear of the parent and of the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self._parent = Parent(sock, self._hear, self._silent)
        self._layer2 = Layer2(self._parent)
        self._bfd = Bfd(self._parent, self._paths_left)
        self.ended: asyncio.Future[PulseExit] = asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Stop answering and let go of everything."""
        self._layer2.close()
        self._bfd.close()
        self._parent.close()

    def _hear(self, message: ToPulse) -> None:
        match message:
            case Heartbeat(sequence=sequence):
                self._parent.send(Echo(sequence))
                self._layer2.report_interfaces()
            case ChangeTable():
                self._layer2.change_table(message)
            case Configure():
                self._layer2.configure(message)
            case Resume(sessions=sessions):
                self._bfd.resume(sessions)
            case WatchBfd():
                self._bfd.watch(message)
            case Stop(keep_paths=keep_paths):
                self._layer2.fall_silent()
                if keep_paths:
                    self._parent.close()
                    self._bfd.outlive()
                else:
                    self._bfd.farewell()
                    self._end(PulseExit.STOPPED)

    def _silent(self) -> None:
        """The parent is dead, or so stuck that others may be taking its addresses over.

        BFD judges the path, not the speaker: whether a stuck one is still to be counted on is for
        the hold timers of its BGP sessions to say (decision 0011).
        """
        self._layer2.fall_silent()
        if self._parent.gone:
            self._bfd.outlive()
        else:
            self._parent.send(Silenced())

    def _paths_left(self) -> None:
        self._end(PulseExit.ORPHANED)

    def _end(self, code: PulseExit) -> None:
        if not self.ended.done():
            self.ended.set_result(code)
            self.close()

    def set_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        """What the kernel says now."""
        self._layer2.set_interfaces(interfaces)
        self._bfd.set_interfaces(interfaces)

    def netlink_restarted(self, cause: str) -> None:
        """Events may have been lost; everything is being read anew."""
        self._parent.notify(NoticeCode.NETLINK_RESTARTED, cause)


async def serve(sock: socket.socket) -> PulseExit:
    """Answer until the parent says stop or is gone for too long."""
    pulse = Pulse(sock)
    monitor = LinkMonitor(pulse.set_interfaces, pulse.netlink_restarted)
    follow = asyncio.create_task(monitor.run(), name="netlink")
    # What exists now lives for ever: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    ends: tuple[asyncio.Future[Any], ...] = (follow, pulse.ended)
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if follow.done():
            follow.result()
        return pulse.ended.result()
    finally:
        pulse.close()
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)


def main() -> int:
    """Run the process on the inherited socket `--fd`."""
    # A signal to the whole process group ends the speaker, which then says when to stop.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="clarion-pulse", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket to the parent")
    arguments = parser.parse_args()
    return asyncio.run(serve(socket.socket(fileno=arguments.fd)))


if __name__ == "__main__":
    sys.exit(main())
