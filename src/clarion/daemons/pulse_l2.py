"""Layer 2 of the pulse process: answers ARP and NDP, and announces what the parent's table says."""

import asyncio
import random
from collections.abc import Iterable

from clarion.base.addr import Address
from clarion.base.errors import InvalidInputError
from clarion.base.limits import (
    L2_FRAMES_PER_SECOND,
    L2_RECEIVE_BATCH_FRAMES,
    L2_REFRESH_SECONDS,
    PULSE_ADDRESSES_PER_MESSAGE,
    PULSE_COUNTS_SECONDS,
    PULSE_SOCKET_RETRY_SECONDS,
)
from clarion.daemons.pulse_parent import Parent
from clarion.edge.packet import GroupMembership, PacketSocket
from clarion.proto.l2.ethernet import EtherType, mac_text
from clarion.proto.l2.interfaces import Exclusions, Fitness, Interface, Obstacle, fitness
from clarion.proto.l2.responder import Answer, Link, Responder
from clarion.proto.l2.schedule import Schedule
from clarion.proto.pulse.messages import (
    AddressCounts,
    Applied,
    ChangeTable,
    Configure,
    CountsReport,
    Interfaces,
    InterfaceState,
    NoticeCode,
)

Key = tuple[Address, int]
"""An address on the interface with this index."""


class Port:
    """What is open on one interface. One socket per IP version, None where it may not be used."""

    __slots__ = (
        "carrier",
        "failed",
        "groups",
        "hears_every_group",
        "link",
        "sending_fails",
        "sockets",
    )

    def __init__(self, interface: Interface) -> None:
        self.link = _link(interface)
        self.carrier = interface.carrier
        self.sockets: dict[int, PacketSocket] = {}
        self.failed: set[int] = set()
        self.groups = GroupMembership(interface.index)
        self.hears_every_group = False
        self.sending_fails = False

    def speaks(self, version: int) -> bool:
        """Whether frames that are sent reach a cable with another end."""
        return self.carrier and version in self.sockets


class Layer2:
    """The part that answers: a responder, a schedule, and the sockets on each interface."""

    def __init__(self, parent: Parent) -> None:
        self._loop = asyncio.get_running_loop()
        self._parent = parent
        self._responder = Responder()
        self._schedule: Schedule[Key] = Schedule(L2_REFRESH_SECONDS, L2_FRAMES_PER_SECOND)
        self._jitter = random.Random()  # noqa: S311 - spreads refreshes in time, guards no secret
        self._exclusions = Exclusions()
        self._interfaces: tuple[Interface, ...] | None = None
        self._ports: dict[int, Port] = {}
        self._states: tuple[InterfaceState, ...] = ()
        self._states_sent: tuple[InterfaceState, ...] | None = None
        self._silent: set[Address] = set()
        self._unchecked: set[Address] = set()
        self._claims_told: dict[Address, bytes] = {}
        self._applied = self._applied_sent = 0
        self._burst_timer: asyncio.TimerHandle | None = None
        self._counts_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None

    def fall_silent(self) -> None:
        """Answer for no address any more, until the parent says so again."""
        for address in tuple(self._responder.addresses):
            self._withdraw(address)

    def close(self) -> None:
        """Stop answering and let go of the sockets."""
        for port in self._ports.values():
            self._close_port(port)
        self._ports.clear()
        for timer in (self._burst_timer, self._counts_timer, self._retry_timer):
            if timer is not None:
                timer.cancel()

    def configure(self, settings: Configure) -> None:
        """Take settings; bad ones leave those in force."""
        if settings.refresh_seconds < 0 or settings.frames_per_second <= 0:
            self._parent.notify(
                NoticeCode.BAD_SETTINGS,
                "the refresh period must not be negative and the frame budget must be positive; "
                "the settings in force are kept",
            )
            return
        try:
            self._exclusions = Exclusions(settings.excluded)
        except InvalidInputError as error:
            self._parent.notify(
                NoticeCode.BAD_SETTINGS, f"{error.message}; the former list is kept"
            )
        self._schedule.configure(settings.refresh_seconds, settings.frames_per_second)
        self._reconcile()

    # The table.

    def change_table(self, change: ChangeTable) -> None:
        """Answer for other addresses from now on."""
        for packed in change.withdraw:
            self._withdraw(Address.from_packed(packed))
        for entry in change.announce:
            address = Address.from_packed(entry.address)
            self._announce(address, entry.interfaces)
            self._unchecked.add(address)
        if change.generation:
            self._applied = change.generation
            self._burst()
            self._find_silent(self._unchecked)
            self._unchecked.clear()
            self._report_applied()

    def _announce(self, address: Address, interfaces: frozenset[str] | None) -> None:
        before = [p for p in self._ports.values() if self._responder.covers(address, p.link.name)]
        self._responder.announce(address, interfaces)
        for index, port in self._ports.items():
            if self._responder.covers(address, port.link.name):
                if port not in before:
                    self._begin(address, index, port)
            else:
                self._cease(address, index, port)

    def _withdraw(self, address: Address) -> None:
        self._responder.withdraw(address)
        self._silent.discard(address)
        self._unchecked.discard(address)
        self._claims_told.pop(address, None)
        for index, port in self._ports.items():
            self._cease(address, index, port)

    def _begin(self, address: Address, index: int, port: Port) -> None:
        """Announce an address on a port: group, burst, refresh."""
        if address.version == 6 and 6 in port.sockets:
            try:
                port.groups.add(address)
            except OSError as error:
                self._hear_every_group(port, error)
        if port.speaks(address.version):
            self._schedule.start(
                (address, index),
                cost=2 if address.version == 4 else 1,
                now=self._loop.time(),
                jitter=self._jitter.random(),
            )

    def _hear_every_group(self, port: Port, cause: OSError) -> None:
        """A group cannot be joined: hear all of them, and say so once."""
        if port.hears_every_group:
            return
        port.hears_every_group = True
        text = f"{port.link.name}: joining a multicast group: {cause.strerror}; all are heard now, "
        text += "but a switch with MLD snooping may hold solicitations back"
        try:
            port.sockets[6].hear_every_group()
        except OSError as error:
            text = f"{port.link.name}: joining multicast groups: {error.strerror}"
        self._parent.notify(NoticeCode.GROUP_FAILED, text, port.link.name)

    def _cease(self, address: Address, index: int, port: Port) -> None:
        self._schedule.cancel((address, index))
        if address.version == 6:
            port.groups.discard(address)

    def _find_silent(self, addresses: Iterable[Address]) -> None:
        """Tell of addresses that no interface announces, once for each list of interfaces."""
        if self._interfaces is None:
            return
        usable = {v: {s.name for s in self._states if s.announces(v)} for v in (4, 6)}
        news: dict[tuple[int, frozenset[str] | None], list[Address]] = {}
        for address in addresses:
            names = self._responder.interfaces(address)
            heard = usable[address.version]
            if heard if names is None else not heard.isdisjoint(names):
                self._silent.discard(address)
            elif address not in self._silent:
                self._silent.add(address)
                news.setdefault((address.version, names), []).append(address)
        for (version, names), group in news.items():
            first = min(group)
            more = f" and {len(group) - 1} more" if len(group) > 1 else ""
            where = f"none of {', '.join(sorted(names))}" if names else "no interface"
            self._parent.notify(
                NoticeCode.NO_INTERFACE,
                f"{first}{more}: {where} can announce IPv{version} addresses on this node",
                address=str(first),
            )

    # The interfaces.

    def set_interfaces(self, interfaces: tuple[Interface, ...]) -> None:
        """What the kernel says now."""
        self._interfaces = interfaces
        self._reconcile()
        self._report_applied()

    def _reconcile(self) -> None:
        """Make sockets, groups and schedule fit the interfaces."""
        if self._interfaces is None:
            return
        self._responder.set_own_macs(interface.mac for interface in self._interfaces)
        for index in self._ports.keys() - {interface.index for interface in self._interfaces}:
            self._drop_port(index)
        states = tuple(self._reconcile_one(interface) for interface in self._interfaces)
        failed = any(Obstacle.SOCKET_FAILED in (state.arp, state.ndp) for state in states)
        if failed and self._retry_timer is None:
            self._retry_timer = self._loop.call_later(PULSE_SOCKET_RETRY_SECONDS, self._retry)
        if states != self._states:
            self._states = states
            self.report_interfaces()
            self._find_silent(self._responder.addresses)
        self._burst()

    def _retry(self) -> None:
        self._retry_timer = None
        self._reconcile()

    def _reconcile_one(self, interface: Interface) -> InterfaceState:
        fit = fitness(interface, self._exclusions)
        index = interface.index
        if fit.arp is not None and fit.ndp is not None:
            self._drop_port(index)
            return _state(interface, fit)
        port = self._ports.get(index)
        if port is None:
            port = self._ports[index] = Port(interface)
        before = {version: self._voice(port, version) for version in (4, 6)}
        port.link = _link(interface)
        port.carrier = interface.carrier
        fit = Fitness(
            arp=self._reconcile_socket(index, port, 4, fit.arp),
            ndp=self._reconcile_socket(index, port, 6, fit.ndp),
        )
        for version in (4, 6):
            if self._voice(port, version) != before[version]:
                self._restart_port(index, port, version)
        return _state(interface, fit)

    def _voice(self, port: Port, version: int) -> tuple[object, ...]:
        """What, when it changes, calls for announcing everything on a port again."""
        link = port.link
        return port.sockets.get(version), port.speaks(version), link.name, link.mac

    def _reconcile_socket(
        self, index: int, port: Port, version: int, obstacle: Obstacle | None
    ) -> Obstacle | None:
        if obstacle is not None:
            self._close_socket(port, version)
            return obstacle
        if version in port.sockets:
            return None
        ethertype = EtherType.ARP if version == 4 else EtherType.IPV6
        try:
            sock = PacketSocket(index, ethertype)
        except OSError as error:
            if version not in port.failed:
                port.failed.add(version)
                text = f"{port.link.name}: {ethertype.name} socket: {error.strerror}"
                self._parent.notify(NoticeCode.SOCKET_FAILED, text, port.link.name)
            return Obstacle.SOCKET_FAILED
        port.failed.discard(version)
        port.sockets[version] = sock
        self._loop.add_reader(sock, self._readable, port, version, sock)
        return None

    def _restart_port(self, index: int, port: Port, version: int) -> None:
        """Begin again on a port that appeared, was renamed, got a new MAC, or lost its voice."""
        for address in self._responder.addresses:
            if address.version == version:
                self._cease(address, index, port)
                if self._responder.covers(address, port.link.name):
                    self._begin(address, index, port)

    def _drop_port(self, index: int) -> None:
        port = self._ports.pop(index, None)
        if port is not None:
            for address in self._responder.addresses:
                self._schedule.cancel((address, index))
            self._close_port(port)

    def _close_port(self, port: Port) -> None:
        for version in tuple(port.sockets):
            self._close_socket(port, version)

    def _close_socket(self, port: Port, version: int) -> None:
        sock = port.sockets.pop(version, None)
        if sock is not None:
            self._loop.remove_reader(sock)
            sock.close()
            if version == 6:
                port.groups.close()
                port.hears_every_group = False

    # Frames.

    def _readable(self, port: Port, version: int, sock: PacketSocket) -> None:
        receive = self._responder.receive_arp if version == 4 else self._responder.receive_ndp
        for _ in range(L2_RECEIVE_BATCH_FRAMES):
            try:
                frame = sock.receive()
            except OSError:
                break  # the interface went down; netlink tells the rest
            if frame is None:
                break
            verdict = receive(frame, port.link)
            if isinstance(verdict, Answer) and self._transmit(port, sock, verdict.frame):
                self._responder.count_sent(verdict.address, responses=1)
        self._arm_counts()

    def _transmit(self, port: Port, sock: PacketSocket, frame: bytes) -> bool:
        try:
            sock.send(frame)
        except OSError as error:
            if not port.sending_fails:
                port.sending_fails = True
                text = f"{port.link.name}: sending: {error.strerror}"
                self._parent.notify(NoticeCode.SEND_FAILED, text, port.link.name)
            return False
        port.sending_fails = False
        return True

    def _burst(self) -> None:
        """Send what the schedule says is due, and wake up for what is next."""
        for address, index in self._schedule.take(self._loop.time()):
            port = self._ports[index]
            sock = port.sockets[address.version]
            frames = self._responder.gratuitous(address, port.link)
            sent = sum(self._transmit(port, sock, frame) for frame in frames)
            self._responder.count_sent(address, gratuitous=sent)
        self._arm_counts()
        if self._burst_timer is not None:
            self._burst_timer.cancel()
            self._burst_timer = None
        deadline = self._schedule.next_deadline()
        if deadline is not None:
            self._burst_timer = self._loop.call_at(deadline, self._burst)

    # Reports.

    def report_interfaces(self) -> None:
        """Send the newest list; while the parent does not read, only that it is owed is kept."""
        if (
            self._interfaces is not None
            and self._states != self._states_sent
            and not self._parent.unsent
        ):
            self._states_sent = self._states
            self._parent.send(Interfaces(self._states))

    def _report_applied(self) -> None:
        if self._interfaces is not None and self._applied != self._applied_sent:
            self._applied_sent = self._applied
            self._parent.send(Applied(self._applied))

    def _arm_counts(self) -> None:
        if self._counts_timer is None and self._responder.has_changed_counts:
            self._counts_timer = self._loop.call_later(PULSE_COUNTS_SECONDS, self._report_counts)

    def _report_counts(self) -> None:
        self._counts_timer = None
        if not self._parent.unsent:
            rows = [
                AddressCounts(address.packed, counts)
                for address, counts in self._responder.take_changed_counts().items()
            ]
            for start in range(0, len(rows), PULSE_ADDRESSES_PER_MESSAGE):
                self._parent.send(
                    CountsReport(tuple(rows[start : start + PULSE_ADDRESSES_PER_MESSAGE]))
                )
            self._report_claims(self._responder.take_claims().items())
        self._arm_counts()

    def _report_claims(self, claims: Iterable[tuple[Address, bytes]]) -> None:
        for address, mac in claims:
            if self._claims_told.get(address) != mac:
                self._claims_told[address] = mac
                text = f"{address} is announced here and claimed by {mac_text(mac)}"
                self._parent.notify(NoticeCode.CONFLICT, text, address=str(address))


def _link(interface: Interface) -> Link:
    return Link(interface.name, interface.mac)


def _state(interface: Interface, fit: Fitness) -> InterfaceState:
    return InterfaceState(
        index=interface.index,
        name=interface.name,
        mac=interface.mac,
        up=interface.up,
        carrier=interface.carrier,
        arp=fit.arp,
        ndp=fit.ndp,
    )
