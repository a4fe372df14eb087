"""BFD under any bytes, any loss and any change of settings: two machines on a simulated path."""

import heapq
import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.proto.bfd.config import BfdConfig
from clarion.proto.bfd.echo import echo_contents
from clarion.proto.bfd.packet import BfdDecodeError, ControlPacket, State, decode, encode
from clarion.proto.bfd.session import BfdSession, Memory

configs = st.builds(
    BfdConfig,
    desired_min_tx=st.sampled_from([0.1, 0.3, 1.0, 2.0]),
    required_min_rx=st.sampled_from([0.1, 0.3, 1.0, 2.0]),
    detect_multiplier=st.integers(2, 5),
)
packets = st.builds(
    ControlPacket,
    diagnostic=st.integers(0, 31),
    state=st.sampled_from(State),
    poll=st.booleans(),
    final=st.booleans(),
    independent=st.booleans(),
    demand=st.booleans(),
    detect_multiplier=st.integers(1, 255),
    my_discriminator=st.integers(1, 2**32 - 1),
    your_discriminator=st.integers(1, 2**32 - 1),
    desired_min_tx=st.integers(0, 2**32 - 1),
    required_min_rx=st.integers(0, 2**32 - 1),
    required_min_echo_rx=st.integers(0, 2**32 - 1),
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=64), packets.map(encode)), st.data())
def test_any_bytes_are_a_packet_or_a_decode_error(data: bytes, draw: st.DataObject) -> None:
    if data and draw.draw(st.booleans()):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    try:
        packet = decode(data)
    except BfdDecodeError:
        return
    assert encode(packet) == data[:24]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_an_echo_or_none(data: bytes) -> None:
    found = echo_contents(data)
    assert found is None or len(data) >= 44


@settings(derandomize=True, max_examples=100, deadline=None)
@given(packets)
def test_packets_survive(packet: ControlPacket) -> None:
    assert decode(encode(packet)) == packet


@settings(derandomize=True, max_examples=100, deadline=None)
@given(configs, st.lists(st.tuples(packets, st.floats(0, 3)), max_size=30))
def test_any_packets_leave_a_session_that_can_go_on(
    config: BfdConfig, heard: list[tuple[ControlPacket, float]]
) -> None:
    """It is Up only through Init or the other side's Init, and always has something to wait for."""
    now = 0.0
    session = BfdSession(config, Memory(discriminator=1), now)
    for packet, pause in heard:
        now += pause
        session.tick(now, 0.5)
        before = session.memory.state
        for reply in session.receive(packet, now, 0.5):
            assert decode(reply).my_discriminator == 1
        after = session.memory.state
        if after is State.UP and before is not State.UP:
            shaken = {(State.DOWN, State.INIT), (State.INIT, State.INIT), (State.INIT, State.UP)}
            assert (before, packet.state) in shaken
        agreed = packet.detect_multiplier * packet.desired_min_tx / 1e6
        assert session.detection_time >= agreed * (1 - 1e-9)
        assert session.next_deadline is not None


class Path:
    """Two sessions, a clock, and a path that delays packets by up to 5 ms and may lose them."""

    def __init__(self, left: BfdConfig, right: BfdConfig, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.loss = 0.0
        self.ends = [BfdSession(left, Memory(discriminator=1), 0.0)]
        self.ends.append(BfdSession(right, Memory(discriminator=2), 0.0))
        self.flying: list[tuple[float, int, int, bytes]] = []
        self.count = 0
        self.lately = [0.0, 0.0]

    def send(self, source: int, data: list[bytes]) -> None:
        for packet in data:
            self.count += 1
            # One after the other, as on a real segment.
            arrives = max(self.lately[source], self.now + self.random.uniform(0, 0.005))
            self.lately[source] = arrives
            if self.random.random() >= self.loss:
                heapq.heappush(self.flying, (arrives, self.count, 1 - source, packet))

    def steps(self, seconds: float) -> Iterator[None]:
        """Let time pass, one event after the other."""
        end = self.now + seconds
        while True:
            due = [(s.next_deadline, index) for index, s in enumerate(self.ends)]
            timers = min((d, i) for d, i in due if d is not None)
            if self.flying and self.flying[0][0] <= timers[0]:
                when, _, index, data = heapq.heappop(self.flying)
                if when > end:
                    heapq.heappush(self.flying, (when, 0, index, data))
                    break
                self.now = max(self.now, when)
                packet = decode(data)
                if packet.your_discriminator in (0, index + 1):
                    spread = self.random.random()
                    self.send(index, self.ends[index].receive(packet, self.now, spread))
            else:
                if timers[0] > end:
                    break
                self.now = max(self.now, timers[0])
                index = timers[1]
                self.send(index, self.ends[index].tick(self.now, self.random.random()))
            yield
        self.now = end

    def run(self, seconds: float) -> None:
        for _ in self.steps(seconds):
            pass

    @property
    def both_up(self) -> bool:
        return all(session.memory.state is State.UP for session in self.ends)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(configs, configs, st.integers(0, 2**32), st.floats(0.1, 0.9))
def test_two_ends_come_up_once_the_path_works(
    left: BfdConfig, right: BfdConfig, seed: int, loss: float
) -> None:
    path = Path(left, right, seed)
    path.loss = loss
    path.run(10.0)
    path.loss = 0.0
    # The longest detection time here, and then three packets at no more than 2 s each.
    path.run(5 * 2.0 + 4 * 2.0)
    assert path.both_up
    downs = [session.memory.down_count for session in path.ends]
    path.run(10.0)
    assert path.both_up
    assert [session.memory.down_count for session in path.ends] == downs


@settings(derandomize=True, max_examples=100, deadline=None)
@given(configs, configs, st.integers(0, 2**32), st.lists(st.tuples(configs, st.floats(0, 4))))
def test_no_change_of_settings_takes_a_session_down(
    left: BfdConfig, right: BfdConfig, seed: int, changes: list[tuple[BfdConfig, float]]
) -> None:
    """Detection is never faster than what the other side has agreed to (RFC 5880 §6.8.3)."""
    path = Path(left, right, seed)
    path.run(10.0)
    assert path.both_up
    for number, (config, pause) in enumerate(changes):
        session = path.ends[number % 2]
        session.configure(config, path.now)
        path.run(pause)
    path.run(10.0)
    assert path.both_up
    assert [session.memory.down_count for session in path.ends] == [0, 0]
    for session, other in (path.ends, path.ends[::-1]):
        assert session.memory.tx_in_force == session.config.desired_min_tx
        assert session.memory.rx_in_force == session.config.required_min_rx
        asked = max(session.config.desired_min_tx, other.config.required_min_rx)
        assert session.transmit_interval == pytest.approx(asked, abs=2e-6)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(configs, configs, st.integers(0, 2**32))
def test_a_session_handed_over_at_any_moment_stays_up(
    left: BfdConfig, right: BfdConfig, seed: int
) -> None:
    path = Path(left, right, seed)
    path.run(10.0)
    for step, _ in enumerate(path.steps(5.0)):
        if step % 3 == 0:
            memory = msgspec.msgpack.decode(
                msgspec.msgpack.encode(path.ends[0].memory), type=Memory
            )
            path.ends[0] = BfdSession(left, memory, path.now)
    assert path.both_up
    assert path.ends[1].memory.down_count == 0
