"""One BFD session (RFC 5880 §6): what arrives and what time does to it, and what it sends.

The driver hands over packets that `demux` found to be for this session, calls `tick` when
`next_deadline` says so, and sends what comes back. All that a session remembers is one plain value,
`Memory`, with which another process can go on (decision 0011).
"""

from typing import Final

import msgspec

from clarion.base.limits import BFD_SLOW_SECONDS
from clarion.proto.bfd.config import BfdConfig, BfdCounts, BfdStatus
from clarion.proto.bfd.echo import EchoFunction
from clarion.proto.bfd.fsm import HEARD, Event, step
from clarion.proto.bfd.packet import (
    MICROSECONDS,
    ControlPacket,
    State,
    diagnostic_words,
    encode,
    microseconds,
)

REMOTE_MIN_RX_INITIAL: Final = 1 / MICROSECONDS
"""RFC 5880 §6.8.1, bfd.RemoteMinRxInterval: one microsecond, until the other side has spoken."""


class Memory(msgspec.Struct, kw_only=True):
    """The state variables of RFC 5880 §6.8.1 and what is counted. Intervals and times are seconds.

    Attributes:
        tx_in_force: bfd.DesiredMinTxInterval as we abide by it; an increase waits for its Poll.
        rx_in_force: bfd.RequiredMinRxInterval as detection uses it; a decrease waits for its Poll.
        polling: A Poll Sequence is being transmitted.
        poll_sent: Some packet of it was sent, so that a Final can be its answer.
        poll_again: Values changed during it; another one follows.
        heard_at: When the last packet arrived that was not discarded.
    """

    discriminator: int
    state: State = State.DOWN
    diagnostic: int = 0
    remote_discriminator: int = 0
    remote_state: State = State.DOWN
    remote_diagnostic: int = 0
    remote_min_rx: float = REMOTE_MIN_RX_INITIAL
    remote_min_tx: float = 0.0
    remote_multiplier: int = 0
    remote_min_echo: float = 0.0
    remote_demand: bool = False
    desired_min_tx: float = BFD_SLOW_SECONDS
    required_min_rx: float = 0.0
    tx_in_force: float = BFD_SLOW_SECONDS
    rx_in_force: float = 0.0
    polling: bool = False
    poll_sent: bool = False
    poll_again: bool = False
    heard_at: float = 0.0
    since: float = 0.0
    last_down: int = 0
    last_down_at: float | None = None
    up_count: int = 0
    down_count: int = 0
    received: int = 0
    sent: int = 0
    discarded: int = 0
    echo_sent: int = 0


class BfdSession:
    """One end of a session.

    Args:
        config: The settings.
        memory: A new one with a random discriminator that is not zero, or that of a session that
            another process let go of.
        now: The time.
        echo_secret: Random, 64 bits.
    """

    __slots__ = (
        "_bytes",
        "_echo_receive",
        "_next_tx",
        "_sent_at",
        "config",
        "echo",
        "memory",
    )

    def __init__(self, config: BfdConfig, memory: Memory, now: float, echo_secret: int = 0) -> None:
        assert memory.discriminator, "bfd.LocalDiscr is not zero (RFC 5880 §6.8.1)"
        self.config = config
        self.memory = memory
        self.echo = EchoFunction(echo_secret)
        self._echo_receive = 0.0
        self._bytes: bytes | None = None
        self._next_tx = self._sent_at = now
        if not memory.rx_in_force:
            memory.required_min_rx = memory.rx_in_force = config.required_min_rx
            memory.since = now
        self._adjust(now)

    # What the outside does.

    def configure(self, config: BfdConfig, now: float) -> None:
        """Take other settings without going down (RFC 5880 §6.8.3)."""
        self.config = config
        self._bytes = None  # §6.8.12: a new multiplier needs no Poll Sequence
        self._adjust(now)

    def loop_back(self, seconds: float) -> None:
        """Promise to send echo packets back that come at this interval; 0 for none."""
        if seconds != self._echo_receive:
            self._echo_receive = seconds
            self._bytes = None

    def disable(self, now: float) -> None:
        """Say AdminDown from now on (RFC 5880 §6.8.16)."""
        self._happen(Event.DISABLE, now)

    def receive(self, packet: ControlPacket, now: float, spread: float) -> list[bytes]:
        """Take in a packet for this session; the steps of RFC 5880 §6.8.6 from the 13th on.

        Args:
            packet: A valid packet that was meant for this session.
            now: The time.
            spread: A random number in [0, 1).

        Returns:
            What to send at once.
        """
        m = self.memory
        m.received += 1
        if packet.my_discriminator != m.remote_discriminator:
            self._bytes = None
        m.remote_discriminator = packet.my_discriminator
        m.remote_state, m.remote_diagnostic = packet.state, packet.diagnostic
        m.remote_demand = packet.demand
        m.remote_min_rx = packet.required_min_rx / MICROSECONDS
        m.remote_min_echo = packet.required_min_echo_rx / MICROSECONDS
        m.remote_min_tx = packet.desired_min_tx / MICROSECONDS
        m.remote_multiplier = packet.detect_multiplier
        if packet.final and m.polling and m.poll_sent:
            self._end_poll()
        if m.state is State.ADMIN_DOWN:
            return []  # "If bfd.SessionState is AdminDown, discard the packet"
        m.heard_at = now
        self._happen(HEARD[packet.state], now)
        self._adjust(now)
        # RFC 5880 §6.8.2, §6.8.3: a faster rate holds from now, not from the next packet.
        self._next_tx = min(self._next_tx, self._sent_at + self._jittered(spread))
        replies = self.tick(now, spread)
        if packet.poll:
            # §6.8.7: at once, whatever the timers say, and without the Poll bit.
            replies.append(encode(self._packet(final=True)))
            m.sent += 1
        return replies

    def tick(self, now: float, spread: float) -> list[bytes]:
        """Do what is due.

        Returns:
            What to send at once.
        """
        m = self.memory
        if m.remote_discriminator and now >= self._detect_at:
            self._lose(now)
        if self.echo.failed(now, self.config.detect_multiplier):
            self._happen(Event.ECHO_FAILED, now)
        if not self._transmits or now < self._next_tx:
            return []
        if self._bytes is None:
            self._bytes = encode(self._packet())
        m.poll_sent |= m.polling
        m.sent += 1
        self._sent_at = now
        self._next_tx = now + self._jittered(spread)
        return [self._bytes]

    def tick_echo(self, now: float, spread: float) -> int | None:
        """The sequence number of an echo packet to send now, or None."""
        sequence = self.echo.tick(now, spread, self.config.detect_multiplier)
        self.memory.echo_sent += sequence is not None
        return sequence

    def receive_echo(self, sequence: int, secret: int, now: float) -> None:
        """Take in an echo packet that came back."""
        if self.echo.heard(sequence, secret):
            self._adjust(now)

    def overdue(self, now: float) -> bool:
        """Whether the session is about to be lost, so that unread packets must be looked for."""
        silent = self.memory.remote_discriminator and now >= self._detect_at
        return bool(silent) or self.echo.failed(now, self.config.detect_multiplier)

    @property
    def next_deadline(self) -> float | None:
        """When `tick` or `tick_echo` has something to do; None while only packets matter."""
        found = [self._next_tx] if self._transmits else []
        if self.memory.remote_discriminator:
            found.append(self._detect_at)
        if self.echo.deadline is not None:
            found.append(self.echo.deadline)
        return min(found, default=None)

    # Timers.

    @property
    def detection_time(self) -> float:
        """RFC 5880 §6.8.4, asynchronous mode."""
        m = self.memory
        return m.remote_multiplier * max(m.rx_in_force, m.remote_min_tx)

    @property
    def _detect_at(self) -> float:
        return self.memory.heard_at + self.detection_time

    @property
    def _transmits(self) -> bool:
        """Whether packets are sent periodically (RFC 5880 §6.8.7)."""
        m = self.memory
        if not m.remote_discriminator and self.config.passive:
            return (
                False  # "... if bfd.RemoteDiscr is zero and the system is taking the Passive role"
            )
        if not m.remote_min_rx:
            return False  # "... if bfd.RemoteMinRxInterval is zero"
        both_up = m.state is State.UP and m.remote_state is State.UP
        return m.polling or not (m.remote_demand and both_up)

    @property
    def transmit_interval(self) -> float:
        """RFC 5880 §6.8.7: the larger of what we want and what the other side can take."""
        return max(self.memory.tx_in_force, self.memory.remote_min_rx)

    def _jittered(self, spread: float) -> float:
        # RFC 5880 §6.8.7: reduced by 0 to 25 %; with a multiplier of 1 by 10 to 25 %.
        room = 0.15 if self.config.detect_multiplier == 1 else 0.25
        return self.transmit_interval * (0.75 + room * spread)

    def _adjust(self, now: float) -> None:
        """Make what we ask for fit the settings and the state."""
        m, config, up = self.memory, self.config, self.memory.state is State.UP
        self._run_echo(now)
        # §6.8.3: not less than one second while the session is not Up ...
        tx = config.desired_min_tx if up else max(config.desired_min_tx, BFD_SLOW_SECONDS)
        # ... and nothing faster is asked for while the Echo function does the work.
        rx = config.required_min_rx
        if self.echo.counted:
            rx = max(rx, BFD_SLOW_SECONDS)
        if (tx, rx) != (m.desired_min_tx, m.required_min_rx):
            m.desired_min_tx, m.required_min_rx = tx, rx
            if m.remote_discriminator:
                m.poll_again = m.polling and m.poll_sent
                m.polling = True
            self._bytes = None
        # §6.8.3: while Up, an increase of the one and a reduction of the other take effect when
        # the Poll Sequence has ended.
        if not up or tx < m.tx_in_force:
            m.tx_in_force = tx
        if not up or rx > m.rx_in_force:
            m.rx_in_force = rx

    def _end_poll(self) -> None:
        m = self.memory
        m.polling, m.poll_sent, m.poll_again = m.poll_again, False, False
        if not m.polling:
            m.tx_in_force, m.rx_in_force = m.desired_min_tx, m.required_min_rx
        self._bytes = None

    def _run_echo(self, now: float) -> None:
        """RFC 5880 §6.8.9: only while Up, and only if the other side takes echo packets."""
        m = self.memory
        wanted = self.config.echo and m.state is State.UP and m.remote_min_echo > 0
        interval = max(self.config.echo_interval, m.remote_min_echo)
        self.echo.run(interval if wanted else 0.0, now)

    # States.

    def _happen(self, event: Event, now: float) -> None:
        m = self.memory
        before, after = m.state, step(m.state, event)
        if after.diagnostic is not None:
            m.diagnostic = after.diagnostic
        if after.state is before:
            return
        self._bytes = None
        m.state, m.since = after.state, now
        m.up_count += after.state is State.UP
        if before is State.UP:
            m.down_count += 1
            m.last_down, m.last_down_at = m.diagnostic, now
        self._adjust(now)
        self._next_tx = now  # RFC 5880 §6.8.7: a change is told without delay

    def _lose(self, now: float) -> None:
        """Nothing arrived for the detection time (RFC 5880 §6.8.1, bfd.RemoteDiscr; §6.8.4)."""
        m = self.memory
        m.remote_discriminator, m.remote_state, m.remote_demand = 0, State.DOWN, False
        m.remote_min_rx = REMOTE_MIN_RX_INITIAL
        m.polling = m.poll_sent = m.poll_again = False
        self._bytes = None
        self._happen(Event.DETECTION_TIME_EXPIRED, now)

    # What is sent and shown.

    def _packet(self, *, final: bool = False) -> ControlPacket:
        m = self.memory
        return ControlPacket(
            diagnostic=m.diagnostic,
            state=m.state,
            poll=m.polling and not final,
            final=final,
            # C stays clear: without its parent this process ends too (decision 0011). D stays
            # clear: we never ask for Demand mode ourselves.
            detect_multiplier=self.config.detect_multiplier,
            my_discriminator=m.discriminator,
            your_discriminator=m.remote_discriminator,
            desired_min_tx=microseconds(m.desired_min_tx),
            required_min_rx=microseconds(m.required_min_rx),
            required_min_echo_rx=microseconds(self._echo_receive),
        )

    def status(self, where: BfdStatus) -> BfdStatus:
        """How the session stands; `where` has the addresses and everything else as it is."""
        m = self.memory
        heard = bool(m.remote_discriminator)
        return msgspec.structs.replace(
            where,
            state=m.state,
            remote_state=m.remote_state,
            since=m.since,
            diagnostic=diagnostic_words(m.diagnostic),
            remote_diagnostic=diagnostic_words(m.remote_diagnostic),
            last_down=diagnostic_words(m.last_down),
            last_down_at=m.last_down_at,
            transmit_interval=self.transmit_interval if self._transmits else 0.0,
            receive_interval=max(m.rx_in_force, m.remote_min_tx) if heard else 0.0,
            detection_time=self.detection_time if heard else 0.0,
            detect_multiplier=self.config.detect_multiplier,
            echo_interval=self.echo.interval if self.echo.counted else 0.0,
            passive=self.config.passive,
            up_count=m.up_count,
            down_count=m.down_count,
            counts=BfdCounts(
                control_received=m.received,
                control_sent=m.sent,
                echo_received=self.echo.received,
                echo_sent=m.echo_sent,
                discarded=m.discarded,
            ),
        )
