"""Who is at the other end of an interface with an unnumbered peer: Router Advertisements both ways.

Interface and addresses are looked at when the owner says that they changed; nothing is polled.
"""

import asyncio
from collections.abc import Callable, Collection

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import ND_RECEIVE_BATCH
from clarion.edge.bgp_host import Host, why
from clarion.edge.icmp6 import RouterSocket
from clarion.edge.ifaddrs import InterfaceAddress, interface_state
from clarion.proto.nd.beacon import Beacon
from clarion.proto.nd.messages import NdError, decode


class NeighborhoodStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the other end of an interface.

    Attributes:
        interface: Its name.
        neighbor: Link-local address of the other end, None while unknown.
        trouble: Why nothing is advertised now; empty while it is.
        sent: Advertisements and solicitations that left.
        heard: Valid ones that arrived.
        refused: Malformed ones, or from beyond the link, that were dropped (RFC 4861 §6.1).
        strangers: Advertisements of further routers on a link that should have one other end.
    """

    interface: str
    neighbor: Address | None
    trouble: str
    sent: int
    heard: int
    refused: int
    strangers: int


class Neighborhood:
    """Advertises on one interface, from the first `look` to `close`, and learns who else does.

    Args:
        host: The surroundings.
        interface: Its name; it may come and go.
        on_neighbor: Called with the address of the other end, or None, and the reason.
        settled: Is a session with the present neighbour up?
    """

    def __init__(
        self,
        host: Host,
        interface: str,
        on_neighbor: Callable[[Address | None, str], None],
        settled: Callable[[], bool],
    ) -> None:
        self._host = host
        self._interface = interface
        self._on_neighbor = on_neighbor
        self._settled = settled
        self._beacon = Beacon()
        self._socket: RouterSocket | None = None
        self._index = 0
        self._timer: asyncio.TimerHandle | None = None
        self._trouble = ""
        self._sent = self._heard = self._refused = 0

    @property
    def neighbor(self) -> Address | None:
        """Link-local address of the other end, as far as known."""
        return self._beacon.neighbor

    @property
    def trouble(self) -> str:
        """Why the other end is not known."""
        return self._trouble or "no Router Advertisement of the peer was heard yet"

    def status(self) -> NeighborhoodStatus:
        """How it stands."""
        return NeighborhoodStatus(
            interface=self._interface,
            neighbor=self._beacon.neighbor,
            trouble=self._trouble,
            sent=self._sent,
            heard=self._heard,
            refused=self._refused,
            strangers=self._beacon.strangers,
        )

    def look(self, addresses: Collection[InterfaceAddress]) -> None:
        """The interface or its addresses may have changed."""
        state = interface_state(self._interface)
        index = state.index if state else 0
        if state is None:
            trouble = "there is no such interface"
        elif not state.running:
            trouble = "the interface is down, or nothing is plugged in"
        elif not any(
            row.ready and row.index == index and row.address.version == 6
            for row in addresses
            if row.address.is_link_local
        ):
            trouble = "the interface has no IPv6 link-local address that can be used yet"
        else:
            trouble = ""
        if self._socket is not None and (trouble or index != self._index):
            self._lower(trouble or "the interface was replaced")
        self._trouble = trouble
        if state is not None and not trouble and self._socket is None:
            self._raise(index, state.mac)

    def _raise(self, index: int, mac: bytes) -> None:
        try:
            self._socket = RouterSocket(self._interface, index)
        except OSError as error:
            self._trouble = f"cannot send Router Advertisements: {why(error)}"
            return
        self._index = index
        self._host.loop.add_reader(self._socket.fileno(), self._ready)
        self._beacon.jitter = self._host.entropy.random()
        self._beacon.up(mac, self._host.clock.monotonic())
        self._flush()

    def _lower(self, reason: str) -> None:
        known = self._beacon.neighbor
        self._beacon.down()
        self._flush()
        if self._socket is not None:
            self._host.loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if known is not None:
            self._on_neighbor(None, reason)

    def meet(self, address: Address) -> None:
        """The other end connected to us before it advertised itself."""
        self._beacon.meet(address)

    def solicit(self) -> None:
        """The session with the neighbour ended: ask who is there now."""
        self._beacon.solicit(self._host.clock.monotonic())
        self._flush()

    def close(self) -> None:
        """Nobody needs to know us here any more."""
        self._beacon.stop()
        self._lower("")

    def _flush(self) -> None:
        """After every call of the machine: send what it asks for, set its timer."""
        for output in self._beacon.outputs():
            if self._socket is not None:
                try:
                    self._socket.send(output.destination, output.payload)
                    self._sent += 1
                except OSError as error:  # it is lost as on the wire; the next one has its time
                    self._trouble = f"cannot send Router Advertisements: {why(error)}"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._beacon.next_deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._host.clock.monotonic())
            self._timer = self._host.loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._trouble = ""
        self._beacon.jitter = self._host.entropy.random()
        self._beacon.timers(self._host.clock.monotonic())
        self._flush()

    def _ready(self) -> None:
        for _ in range(ND_RECEIVE_BATCH):
            try:
                received = self._socket.receive() if self._socket else None
            except OSError:  # the interface went down; `look` is told
                return
            if received is None:
                return
            self._hear(*received)

    def _hear(self, payload: bytes, source: Address, hop_limit: int) -> None:
        try:
            message = decode(payload, source, hop_limit)
        except NdError:
            self._refused += 1
            return
        self._heard += 1
        before = self._beacon.neighbor
        self._beacon.jitter = self._host.entropy.random()
        now = self._host.clock.monotonic()
        self._beacon.hear(message, now, settled=self._settled())
        self._flush()
        after = self._beacon.neighbor
        if after != before:
            self._on_neighbor(after, f"the peer on {self._interface} is {after} now")
