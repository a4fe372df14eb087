"""Bursts, refreshes and the budget, in virtual time."""

from collections.abc import Iterator

from clarion.base.limits import L2_BURST_ROUNDS, L2_FRAMES_AT_ONCE
from clarion.proto.l2.schedule import Schedule


def run(schedule: Schedule[str], until: float, start: float = 0.0) -> Iterator[tuple[float, str]]:
    """Drive the schedule by its own deadlines."""
    now = start
    while True:
        for key in schedule.take(now):
            yield now, key
        deadline = schedule.next_deadline()
        if deadline is None or deadline > until:
            return
        assert deadline > now
        now = deadline


def test_a_burst_and_then_a_refresh() -> None:
    schedule: Schedule[str] = Schedule(60, 1000)
    schedule.start("a", cost=2, now=0.0, jitter=0.5)
    times = [round(now, 3) for now, _ in run(schedule, 190)]
    assert times == [0, 1.1, 2.2, 3.3, 4.4, 64.4, 124.4, 184.4]


def test_jitter_spreads_the_period_by_a_tenth() -> None:
    schedule: Schedule[str] = Schedule(60, 1000)
    schedule.start("early", cost=1, now=0.0, jitter=0.0)
    schedule.start("late", cost=1, now=0.0, jitter=1.0)
    refreshes = {key: round(now, 3) for now, key in run(schedule, 100) if now > 5}
    assert refreshes == {"early": 58.4, "late": 70.4}


def test_without_a_period_the_burst_is_all() -> None:
    schedule: Schedule[str] = Schedule(0, 1000)
    schedule.start("a", cost=1, now=0.0, jitter=0.5)
    assert len(list(run(schedule, 1000))) == L2_BURST_ROUNDS
    assert "a" not in schedule
    assert schedule.next_deadline() is None


def test_withdrawal_cancels() -> None:
    schedule: Schedule[str] = Schedule(60, 1000)
    schedule.start("a", cost=1, now=0.0, jitter=0.5)
    schedule.start("b", cost=1, now=0.0, jitter=0.5)
    assert schedule.take(0.0) == ["a", "b"]
    schedule.cancel("a")
    schedule.cancel("unknown")
    assert [key for _, key in run(schedule, 1.2, start=0.1)] == ["b"]
    schedule.cancel_all()
    assert schedule.next_deadline() is None
    assert len(schedule) == 0


def test_a_new_start_replaces_the_burst_under_way() -> None:
    schedule: Schedule[str] = Schedule(60, 1000)
    schedule.start("a", cost=1, now=0.0, jitter=0.5)
    schedule.take(0.0)
    schedule.start("a", cost=1, now=0.5, jitter=0.5)
    times = [round(now, 3) for now, _ in run(schedule, 10, start=0.5)]
    assert times == [0.5, 1.6, 2.7, 3.8, 4.9]


def test_first_rounds_go_before_second_ones() -> None:
    schedule: Schedule[int] = Schedule(0, 100)
    for key in range(L2_FRAMES_AT_ONCE + 300):
        schedule.start(key, cost=1, now=0.0, jitter=0.5)
    order: list[int] = []
    now = 0.0
    while len(order) < L2_FRAMES_AT_ONCE + 300:
        order += schedule.take(now)
        deadline = schedule.next_deadline()
        assert deadline is not None
        now = deadline
    assert order == list(range(L2_FRAMES_AT_ONCE + 300))
    assert 2.9 < now < 3.1, "300 frames over the allowance at 100 per second"


def test_one_costly_key_is_not_starved() -> None:
    schedule: Schedule[str] = Schedule(0, 10)
    schedule.start("a", cost=L2_FRAMES_AT_ONCE * 2, now=0.0, jitter=0.5)
    assert schedule.take(0.0) == ["a"]
    times = [now for now, _ in run(schedule, 1000, start=0.0)]
    assert len(times) == L2_BURST_ROUNDS - 1


def test_a_clock_that_stands_still_earns_nothing() -> None:
    schedule: Schedule[int] = Schedule(60, 1000)
    for key in range(L2_FRAMES_AT_ONCE * 2):
        schedule.start(key, cost=1, now=5.0, jitter=0.5)
    assert len(schedule.take(5.0)) == L2_FRAMES_AT_ONCE
    assert schedule.take(5.0) == []
    assert schedule.take(4.0) == []


def test_cancelled_deadlines_do_not_pile_up() -> None:
    schedule: Schedule[int] = Schedule(60, 1e9)
    for turn in range(10_000):
        schedule.start(turn % 10, cost=1, now=float(turn), jitter=0.5)
        schedule.cancel(turn % 10)
    assert len(schedule._heap) < 200


def test_settings_change_while_running() -> None:
    schedule: Schedule[str] = Schedule(60, 1000)
    schedule.start("a", cost=1, now=0.0, jitter=0.5)
    list(run(schedule, 5))
    schedule.configure(10, 1000)
    times = [round(now, 1) for now, _ in run(schedule, 90, start=5.0)]
    assert times == [64.4, 74.4, 84.4]
