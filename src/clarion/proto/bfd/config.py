"""What a BFD session is told and what it tells: settings, status, counts."""

import msgspec

from clarion.base.limits import (
    BFD_DETECT_MULTIPLIER,
    BFD_ECHO_SECONDS,
    BFD_INTERVAL_SECONDS,
    BFD_MULTIHOP_TTL_MIN,
)
from clarion.proto.bfd.packet import State


class BfdConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one session; all can change while it is up. Intervals are seconds.

    Attributes:
        desired_min_tx: We send no faster than this.
        required_min_rx: The other side is asked to send no faster than this.
        detect_multiplier: So many of our packets may be missed before the other side gives up.
        echo: Have the other side's kernel send echo packets back, and judge the path by these.
        echo_interval: Between echo packets, ours and those that the other side may send us.
        passive: Say nothing until the other side has spoken (RFC 5880 §6.1).
        minimum_ttl: Multihop packets that arrive with less are discarded.
    """

    desired_min_tx: float = BFD_INTERVAL_SECONDS
    required_min_rx: float = BFD_INTERVAL_SECONDS
    detect_multiplier: int = BFD_DETECT_MULTIPLIER
    echo: bool = False
    echo_interval: float = BFD_ECHO_SECONDS
    passive: bool = False
    minimum_ttl: int = BFD_MULTIHOP_TTL_MIN


class BfdCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Packets of one session. `discarded` were for it and are not among those received."""

    control_received: int = 0
    control_sent: int = 0
    echo_received: int = 0
    echo_sent: int = 0
    discarded: int = 0


class BfdStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One session at one moment. Intervals are seconds; `since` is on the monotonic clock.

    Attributes:
        remote: Address of the other side, in text.
        local: Our address as far as it was asked for, in text; empty where the kernel chooses.
        interface: Name of the interface that the session is bound to, empty for none.
        vrf: Name of the VRF's device, empty for the default one.
        multihop: Routers may be in between (RFC 5883).
        remote_state: What the other side said of itself last.
        since: When the session came into its state.
        diagnostic: Why it did, in words; empty for the ordinary way up.
        remote_diagnostic: What the other side says of its own last change.
        last_down: Why the session was last lost after it had been up; empty if it never was.
        last_down_at: When, on the monotonic clock.
        transmit_interval: Between our packets, before jitter; 0 while none are sent.
        receive_interval: Agreed for the other side's packets; 0 before one was received.
        detection_time: Silence after which the session is down; 0 before one was received.
        echo_interval: Between our echo packets; 0 while the echo function is not in use.
        up_count: Times that the session came up.
        down_count: Times that it was lost.
        trouble: What prevents the session from being tried at all, in words.
    """

    remote: str
    local: str = ""
    interface: str = ""
    vrf: str = ""
    multihop: bool = False
    state: State = State.DOWN
    remote_state: State = State.DOWN
    since: float = 0.0
    diagnostic: str = ""
    remote_diagnostic: str = ""
    last_down: str = ""
    last_down_at: float | None = None
    transmit_interval: float = 0.0
    receive_interval: float = 0.0
    detection_time: float = 0.0
    detect_multiplier: int = BFD_DETECT_MULTIPLIER
    echo_interval: float = 0.0
    passive: bool = False
    up_count: int = 0
    down_count: int = 0
    trouble: str = ""
    counts: BfdCounts = BfdCounts()

    @property
    def up(self) -> bool:
        """Whether the path is known to work in both directions."""
        return self.state is State.UP
