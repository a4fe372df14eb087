"""One BFD session against a scripted other side: RFC 5880 §6, clause by clause."""

import msgspec
import pytest

from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.fsm import Event, step
from clarion.proto.bfd.packet import ControlPacket, Diagnostic, State, decode
from clarion.proto.bfd.session import BfdSession, Memory

FAST = BfdConfig(desired_min_tx=0.1, required_min_rx=0.1)


class Bench:
    """A session, its clock, and what it sent."""

    def __init__(self, config: BfdConfig = FAST) -> None:
        self.now = 1000.0
        self.session = BfdSession(config, Memory(discriminator=7), self.now, echo_secret=5)
        self.sent: list[ControlPacket] = []

    @property
    def memory(self) -> Memory:
        return self.session.memory

    def note(self, packets: list[bytes]) -> list[ControlPacket]:
        found = [decode(data) for data in packets]
        self.sent += found
        return found

    def hear(self, state: State, **fields: object) -> list[ControlPacket]:
        packet = ControlPacket(
            state=state,
            detect_multiplier=3,
            my_discriminator=9,
            your_discriminator=7,
            desired_min_tx=100_000,
            required_min_rx=100_000,
        )
        packet = msgspec.structs.replace(packet, **fields)
        return self.note(self.session.receive(packet, self.now, 0.5))

    def tick(self) -> list[ControlPacket]:
        return self.note(self.session.tick(self.now, 0.5))

    def until(self, end: float) -> list[ControlPacket]:
        """Let time pass, deadline by deadline."""
        found = []
        while (due := self.session.next_deadline) is not None and due <= end:
            self.now = max(self.now, due)
            found += self.tick()
        self.now = end
        return found

    def up(self) -> "Bench":
        self.tick()
        self.hear(State.DOWN, your_discriminator=0)
        self.hear(State.INIT)
        assert self.memory.state is State.UP
        self.hear(State.UP, final=True)
        return self


def test_the_table_knows_no_short_way_up() -> None:
    """RFC 5880 §6.2, §6.8.6."""
    assert step(State.DOWN, Event.HEARD_UP).state is State.DOWN
    assert step(State.UP, Event.HEARD_INIT).state is State.UP
    for event in Event:
        assert step(State.ADMIN_DOWN, event).state is State.ADMIN_DOWN


def test_the_handshake() -> None:
    """RFC 5880 §6.2."""
    bench = Bench()
    (first,) = bench.tick()
    assert (first.state, first.your_discriminator) == (State.DOWN, 0)
    assert first.desired_min_tx == 1_000_000  # §6.8.3: slow while not Up
    (answer,) = bench.hear(State.DOWN, your_discriminator=0)
    assert (answer.state, answer.your_discriminator) == (State.INIT, 9)
    (answer,) = bench.hear(State.INIT)
    assert (answer.state, answer.poll, answer.desired_min_tx) == (State.UP, True, 100_000)
    assert answer.diagnostic == 0


def test_packets_are_slow_while_the_session_is_not_up() -> None:
    bench = Bench()
    bench.tick()
    assert 7 <= len(bench.until(bench.now + 7.9)) <= 10


def test_packets_are_jittered_within_the_interval() -> None:
    bench = Bench().up()
    for spread, wanted in ((0.0, 0.075), (0.999, 0.1)):
        bench.now = bench.session.next_deadline or 0.0
        bench.session.tick(bench.now, spread)
        assert (bench.session.next_deadline or 0.0) - bench.now == pytest.approx(wanted, rel=0.01)


def test_with_a_multiplier_of_one_packets_come_early() -> None:
    bench = Bench(msgspec.structs.replace(FAST, detect_multiplier=1)).up()
    bench.now = bench.session.next_deadline or 0.0
    bench.session.tick(bench.now, 0.999)
    gap = (bench.session.next_deadline or 0.0) - bench.now
    assert gap == pytest.approx(0.09, rel=0.01)  # §6.8.7: no more than 90 %


def test_silence_for_the_detection_time_is_down() -> None:
    """RFC 5880 §6.8.4."""
    bench = Bench().up()
    heard = bench.now
    assert bench.session.detection_time == pytest.approx(0.3)
    bench.until(heard + 0.299)
    assert bench.memory.state is State.UP
    sent = bench.until(heard + 0.31)
    assert sent[-1].state is State.DOWN
    assert sent[-1].diagnostic == Diagnostic.DETECTION_TIME_EXPIRED
    assert sent[-1].your_discriminator == 0  # §6.8.1, bfd.RemoteDiscr
    assert bench.memory.down_count == 1
    status = bench.session.status(BfdStatus(remote="192.0.2.1"))
    assert "detection time" in status.last_down
    assert not status.up


def test_late_packets_that_were_waiting_keep_it_up() -> None:
    bench = Bench().up()
    bench.now += 5.0
    assert bench.session.overdue(bench.now)
    bench.hear(State.UP)
    bench.tick()
    assert bench.memory.state is State.UP


@pytest.mark.parametrize("state", [State.DOWN, State.ADMIN_DOWN])
def test_the_other_side_takes_it_down(state: State) -> None:
    bench = Bench().up()
    (answer,) = bench.hear(state)
    assert answer.diagnostic == Diagnostic.NEIGHBOR_SIGNALED_DOWN
    assert bench.memory.state is State.DOWN
    assert bench.memory.remote_state is state


def test_admin_down_is_said_and_stays() -> None:
    """RFC 5880 §6.8.16."""
    bench = Bench().up()
    bench.session.disable(bench.now)
    (said,) = bench.tick()
    assert (said.state, said.diagnostic) == (State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
    assert bench.hear(State.DOWN) == []
    assert bench.memory.state is State.ADMIN_DOWN
    assert len(bench.until(bench.now + 2.5)) in (2, 3)


def test_a_poll_is_answered_at_once_and_without_its_bit() -> None:
    bench = Bench().up()
    before = bench.session.next_deadline
    (answer,) = bench.hear(State.UP, poll=True)
    assert (answer.final, answer.poll) == (True, False)
    assert bench.session.next_deadline == before  # §6.8.7: the timer is not touched


def test_raising_the_transmit_interval_waits_for_its_poll() -> None:
    bench = Bench().up()
    bench.session.configure(BfdConfig(desired_min_tx=0.5, required_min_rx=0.1), bench.now)
    (said,) = bench.until(bench.now + 0.1)
    assert (said.poll, said.desired_min_tx) == (True, 500_000)
    assert bench.session.transmit_interval == pytest.approx(0.1)
    bench.hear(State.UP, final=True)
    assert bench.session.transmit_interval == pytest.approx(0.5)
    assert bench.memory.down_count == 0


def test_lowering_the_detection_time_waits_for_its_poll() -> None:
    slow = BfdConfig(desired_min_tx=0.1, required_min_rx=0.5)
    bench = Bench(slow).up()
    assert bench.session.detection_time == pytest.approx(1.5)
    bench.session.configure(FAST, bench.now)
    assert bench.session.detection_time == pytest.approx(1.5)
    bench.hear(State.UP, final=True)  # answers nothing: no Poll was sent yet
    assert bench.session.detection_time == pytest.approx(1.5)
    bench.until(bench.now + 0.1)
    bench.hear(State.UP, final=True)
    assert bench.session.detection_time == pytest.approx(0.3)


def test_lowering_the_transmit_and_raising_the_receive_interval_hold_at_once() -> None:
    bench = Bench(BfdConfig(desired_min_tx=0.5, required_min_rx=0.1)).up()
    bench.session.configure(BfdConfig(desired_min_tx=0.1, required_min_rx=0.4), bench.now)
    assert bench.session.transmit_interval == pytest.approx(0.1)
    assert bench.session.detection_time == pytest.approx(1.2)


def test_a_change_during_a_poll_gets_a_poll_of_its_own() -> None:
    bench = Bench().up()
    bench.session.configure(BfdConfig(desired_min_tx=0.5, required_min_rx=0.1), bench.now)
    bench.until(bench.now + 0.1)
    bench.session.configure(BfdConfig(desired_min_tx=0.8, required_min_rx=0.1), bench.now)
    bench.hear(State.UP, final=True)  # may answer the first one
    assert bench.session.transmit_interval == pytest.approx(0.1)
    (said,) = bench.until(bench.now + 0.1)
    assert (said.poll, said.desired_min_tx) == (True, 800_000)
    bench.hear(State.UP, final=True)
    assert bench.session.transmit_interval == pytest.approx(0.8)


def test_the_slower_of_both_wishes_counts() -> None:
    """RFC 5880 §6.8.2, §6.8.4."""
    bench = Bench().up()
    bench.hear(State.UP, required_min_rx=700_000, desired_min_tx=900_000, detect_multiplier=5)
    assert bench.session.transmit_interval == pytest.approx(0.7)
    assert bench.session.detection_time == pytest.approx(4.5)


def test_nothing_is_sent_to_who_takes_nothing() -> None:
    bench = Bench().up()
    bench.hear(State.UP, required_min_rx=0)
    assert bench.until(bench.now + 0.29) == []
    (answer,) = bench.hear(State.UP, required_min_rx=0, poll=True)
    assert answer.final
    bench.until(bench.now + 0.5)  # it falls silent, and is forgotten with its wish
    assert bench.memory.state is State.DOWN
    assert bench.until(bench.now + 1.1)


def test_a_passive_side_waits() -> None:
    """RFC 5880 §6.1."""
    bench = Bench(msgspec.structs.replace(FAST, passive=True))
    assert bench.session.next_deadline is None
    assert bench.tick() == []
    (answer,) = bench.hear(State.DOWN, your_discriminator=0)
    assert answer.state is State.INIT
    bench.hear(State.INIT)
    bench.until(bench.now + 1.0)
    assert bench.memory.state is State.DOWN
    assert bench.session.next_deadline is None


def test_demand_mode_of_the_other_side_is_honoured() -> None:
    bench = Bench().up()
    bench.hear(State.UP, demand=True)
    assert bench.until(bench.now + 0.25) == []
    (answer,) = bench.hear(State.UP, demand=True, poll=True)
    assert (answer.final, answer.demand) == (True, False)
    bench.session.configure(BfdConfig(desired_min_tx=0.2, required_min_rx=0.1), bench.now)
    assert bench.until(bench.now + 0.2)[0].poll  # a Poll Sequence is sent all the same
    bench.hear(State.UP, demand=True, final=True)
    bench.hear(State.DOWN, demand=True)
    assert bench.sent[-1].state is State.DOWN


def test_a_new_multiplier_needs_no_poll() -> None:
    """RFC 5880 §6.8.12."""
    bench = Bench().up()
    bench.session.configure(msgspec.structs.replace(FAST, detect_multiplier=9), bench.now)
    (said,) = bench.until(bench.now + 0.1)
    assert (said.poll, said.detect_multiplier) == (False, 9)


def test_control_packets_never_claim_what_is_not_so() -> None:
    bench = Bench().up()
    bench.until(bench.now + 0.2)
    assert not any(p.independent or p.demand or p.multipoint for p in bench.sent)


def test_echo_runs_while_up_and_slows_the_rest_down() -> None:
    """RFC 5880 §6.4, §6.8.5, §6.8.9."""
    bench = Bench(msgspec.structs.replace(FAST, echo=True, echo_interval=0.05)).up()
    assert bench.session.tick_echo(bench.now, 0.5) is None  # none are taken
    bench.hear(State.UP, required_min_echo_rx=80_000)
    sequence = bench.session.tick_echo(bench.now, 0.5)
    assert sequence == 1
    assert bench.session.echo.interval == pytest.approx(0.08)
    assert bench.memory.required_min_rx == pytest.approx(0.1)
    bench.session.receive_echo(sequence, 5, bench.now)
    assert bench.memory.required_min_rx == pytest.approx(1.0)  # §6.8.3
    heard = bench.now
    for _ in range(4):
        bench.now = bench.session.echo.deadline or 0.0
        bench.tick()
        bench.session.tick_echo(bench.now, 0.5)
    assert bench.memory.state is State.DOWN
    assert bench.memory.diagnostic == Diagnostic.ECHO_FAILED
    assert bench.now - heard <= 4 * 0.08
    assert bench.memory.required_min_rx == pytest.approx(0.1)
    assert bench.session.echo.deadline is None


def test_who_takes_no_echos_any_more_gets_none() -> None:
    """RFC 5880 §6.8.9."""
    bench = Bench(msgspec.structs.replace(FAST, echo=True)).up()
    bench.hear(State.UP, required_min_echo_rx=50_000)
    assert bench.session.echo.deadline is not None
    bench.hear(State.UP, required_min_echo_rx=0)
    assert bench.session.echo.deadline is None


def test_another_process_goes_on_where_this_one_stopped() -> None:
    bench = Bench().up()
    data = msgspec.msgpack.encode(bench.memory)
    memory = msgspec.msgpack.decode(data, type=Memory)
    other = BfdSession(FAST, memory, bench.now + 0.05)
    (said,) = map(decode, other.tick(bench.now + 0.05, 0.5))
    assert (said.state, said.my_discriminator, said.your_discriminator) == (State.UP, 7, 9)
    assert other.detection_time == pytest.approx(0.3)


def test_the_promise_of_echos_is_in_the_packets() -> None:
    bench = Bench()
    bench.session.loop_back(0.05)
    (said,) = bench.tick()
    assert said.required_min_echo_rx == 50_000
