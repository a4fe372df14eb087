"""The messages between the speaker's main process and its pulse process.

Main owns the table of announced addresses, of which it sends what changed, and the list of BFD
sessions, which it sends whole; a new pulse process is sent all of both. Pulse reports what it sees
of interfaces and sessions, what it counted, and what went wrong. Addresses travel as network-order
bytes: MessagePack has no 128-bit integers.
"""

from enum import IntEnum, StrEnum

import msgspec

from clarion.base.limits import L2_FRAMES_PER_SECOND, L2_REFRESH_SECONDS
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.session import Memory
from clarion.proto.l2.interfaces import Obstacle
from clarion.proto.l2.responder import Counts


class PulseExit(IntEnum):
    """Exit codes of the pulse process."""

    STOPPED = 0
    ORPHANED = 75
    """The parent is dead, for longer than PULSE_ORPHAN_SECONDS."""


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Main: settings; the first message, and again when they change.

    Attributes:
        excluded: Regular expressions of interface names that must not be used.
        refresh_seconds: Period of the unsolicited announcements after the burst.
        frames_per_second: Budget of all unsolicited frames together.
    """

    excluded: tuple[str, ...] = ()
    refresh_seconds: float = L2_REFRESH_SECONDS
    frames_per_second: float = L2_FRAMES_PER_SECOND


class Entry(msgspec.Struct, frozen=True):
    """One announced address; `interfaces` None means every usable one."""

    address: bytes
    interfaces: frozenset[str] | None


class ChangeTable(msgspec.Struct, frozen=True, tag="change"):
    """Main: withdraw these addresses, then announce those (new ones, or with other interfaces)."""

    generation: int
    announce: tuple[Entry, ...] = ()
    withdraw: tuple[bytes, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Main: I live. Pulse sends it back."""

    sequence: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Main: stop answering and exit.

    Attributes:
        keep_paths: This speaker comes back soon: BFD sessions that are to outlive it go on.
    """

    keep_paths: bool = False


class WatchedSession(msgspec.Struct, frozen=True, kw_only=True):
    """One wanted BFD session.

    Attributes:
        name: Names the session in reports and through changes of its settings.
        remote: Address of the other side.
        local: Our address, empty to have the kernel choose.
        interface: The interface that it is bound to, empty for none.
        vrf: The device of its VRF, empty for the default one.
        multihop: Routers may be in between.
        outlive: Seconds for which it goes on without a speaker, longer than the rest of pulse: as
            long as the peer may keep the routes (RFC 4724 §2, Restart Time).
        begin: False has a session that does not run yet wait; one that was taken over goes on.
        config: The settings.
    """

    name: str
    remote: bytes
    local: bytes = b""
    interface: str = ""
    vrf: str = ""
    multihop: bool = False
    outlive: float = 0.0
    begin: bool = True
    config: BfdConfig = BfdConfig()


class WatchBfd(msgspec.Struct, frozen=True, tag="watchBfd"):
    """Main: these are all the BFD sessions from now on; the others say AdminDown and end."""

    sessions: tuple[WatchedSession, ...]


class HandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """A BFD session as one pulse process leaves it to the next.

    Attributes:
        wanted: What the speaker asked for.
        memory: Where the session stands.
        port: The UDP port that it sends from.
    """

    wanted: WatchedSession
    memory: Memory
    port: int


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """Main: go on with these sessions of a pulse process that died; the first word on BFD."""

    sessions: tuple[HandedOver, ...]


ToPulse = Configure | ChangeTable | Resume | WatchBfd | Heartbeat | Stop


class InterfaceState(msgspec.Struct, frozen=True):
    """One interface as pulse uses it.

    Attributes:
        index: Kernel index.
        name: Name at present.
        mac: Hardware address.
        up: Switched on.
        carrier: The cable's other end is there.
        arp: What prevents announcing IPv4 addresses on it, None if nothing does.
        ndp: What prevents announcing IPv6 addresses on it, None if nothing does.
    """

    index: int
    name: str
    mac: bytes
    up: bool
    carrier: bool
    arp: Obstacle | None
    ndp: Obstacle | None

    def announces(self, version: int) -> bool:
        """Whether addresses of this IP version are announced on it."""
        return (self.arp if version == 4 else self.ndp) is None


class Interfaces(msgspec.Struct, frozen=True, tag="interfaces"):
    """Pulse: every interface; sent once at the start and on each change."""

    interfaces: tuple[InterfaceState, ...]


class AddressCounts(msgspec.Struct, frozen=True):
    """The counts of one address."""

    address: bytes
    counts: Counts


class CountsReport(msgspec.Struct, frozen=True, tag="counts"):
    """Pulse: the addresses whose counts changed, with the new values."""

    changed: tuple[AddressCounts, ...]


class NoticeCode(StrEnum):
    """Kinds of notice."""

    NO_INTERFACE = "noInterface"
    SOCKET_FAILED = "socketFailed"
    SEND_FAILED = "sendFailed"
    GROUP_FAILED = "groupFailed"
    BAD_SETTINGS = "badSettings"
    NETLINK_RESTARTED = "netlinkRestarted"
    BFD_FAILED = "bfdFailed"
    CONFLICT = "conflict"


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """Pulse: something that a user or a maintainer should hear of; sent when it begins.

    Attributes:
        code: Kind.
        message: In words, complete without the other fields.
        interface: Interface concerned, if one is.
        address: Address concerned in text form, if one is.
    """

    code: NoticeCode
    message: str
    interface: str | None = None
    address: str | None = None


class Echo(msgspec.Struct, frozen=True, tag="echo"):
    """Pulse: answer to a heartbeat."""

    sequence: int


class Silenced(msgspec.Struct, frozen=True, tag="silenced"):
    """Pulse: after PULSE_ORPHAN_SECONDS without a word the table was emptied: others may own it."""


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """Pulse: the change with this generation is in force, its first frames are queued or sent."""

    generation: int


class BfdReport(msgspec.Struct, frozen=True, tag="bfd"):
    """Pulse: sessions as they stand, by name; at once when a state changes, else with the counts.

    The first report of a session says that it is watched. One that says down is no failure unless
    an earlier one of the same process said up.

    Attributes:
        sessions: Name -> how it stands.
        held: What another process needs to go on with those of them that have begun.
    """

    sessions: dict[str, BfdStatus]
    held: tuple[HandedOver, ...] = ()


FromPulse = Interfaces | CountsReport | BfdReport | Notice | Echo | Applied | Silenced
