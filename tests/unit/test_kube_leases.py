"""Who is alive by observed renewals, and the election of one leader."""

import pytest

from clarion.proto.kube.backoff import Backoff, BackoffPolicy
from clarion.proto.kube.leases import (
    Create,
    ElectionPolicy,
    Elector,
    LeaseObserver,
    LeaseRecord,
    Liveness,
    Replace,
    Wait,
)

POLICY = ElectionPolicy(lease_duration=15, renew_deadline=10, retry_period=2)


def lease(renewed: str, holder: str = "node-a", duration: float = 4.0) -> LeaseRecord:
    return LeaseRecord(holder=holder, duration=duration, renew_time=renewed)


# --- observing --------------------------------------------------------------------------------


def test_a_lease_seen_first_has_the_benefit_of_doubt_for_one_duration() -> None:
    observer = LeaseObserver()
    observer.observe("a", lease("1999"), now=100)
    assert observer.liveness("a", 103.9) is Liveness.UNCONFIRMED
    assert observer.alive(103.9) == {"node-a"}
    assert not observer.settled(103.9)
    assert observer.deadline(103.9) == 104
    assert observer.liveness("a", 104) is Liveness.DEAD
    assert observer.alive(104) == frozenset()
    assert observer.settled(104)
    assert observer.deadline(104) is None


def test_only_a_change_keeps_alive_and_what_it_says_does_not_matter() -> None:
    observer = LeaseObserver()
    observer.observe("a", lease("2040-01-01"), now=0)
    observer.observe("a", lease("2040-01-01"), now=3)  # read again, not renewed
    assert observer.liveness("a", 4) is Liveness.DEAD
    observer.observe("a", lease("1980-01-01"), now=5)  # a clock that jumped back
    assert observer.liveness("a", 8.9) is Liveness.ALIVE
    assert observer.liveness("a", 9) is Liveness.DEAD


def test_a_change_of_holder_is_a_change() -> None:
    observer = LeaseObserver()
    observer.observe("a", lease("t"), now=0)
    observer.observe("a", lease("t", holder="node-b"), now=3)
    assert observer.alive(6) == {"node-b"}


def test_a_deleted_or_released_lease_is_dead_at_once() -> None:
    observer = LeaseObserver()
    observer.observe("a", lease("t"), now=0)
    observer.observe("b", lease("t", holder="node-b"), now=0)
    observer.observe("a", None, now=1)
    observer.observe("b", lease("t", holder=""), now=1)
    assert observer.liveness("a", 1) is Liveness.UNKNOWN
    assert observer.liveness("b", 1) is Liveness.DEAD
    assert observer.alive(1) == frozenset()


def test_the_deadline_is_the_first_death() -> None:
    observer = LeaseObserver()
    observer.observe("a", lease("t"), now=0)
    observer.observe("b", lease("t", holder="node-b", duration=9), now=1)
    assert observer.deadline(1) == 4
    assert observer.deadline(5) == 10


# --- electing ---------------------------------------------------------------------------------


class Shared:
    """The Lease on the server, with the conditional writes that the server offers."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.writes = 0

    def write(self, elector: Elector, now: float, took: float = 0.0) -> bool:
        """One attempt of a candidate; whether it wrote."""
        elector.seen(self.record, now)
        decision = elector.decide(f"t{now}", now)
        if isinstance(decision, Wait):
            return False
        if isinstance(decision, Create):
            assert self.record is None
        else:
            assert self.record is not None
            assert decision.record.version == self.record.version
        self.put(decision)
        assert self.record is not None
        elector.written(self.record, now, now + took)
        return True

    def put(self, decision: Create | Replace) -> None:
        self.writes += 1
        fields = decision.record
        self.record = LeaseRecord(
            holder=fields.holder,
            duration=fields.duration,
            acquire_time=fields.acquire_time,
            renew_time=fields.renew_time,
            transitions=fields.transitions,
            version=str(self.writes),
        )


def test_the_first_candidate_creates_and_renews_and_the_second_waits() -> None:
    shared, one, two = Shared(), Elector("one", POLICY), Elector("two", POLICY)
    assert shared.write(one, 0)
    assert one.leads(0)
    assert one.leads(9.9)
    assert not one.leads(10)
    assert not shared.write(two, 1)
    assert two.leader == "one"
    assert shared.write(one, 2)
    assert shared.record is not None
    assert (shared.record.acquire_time, shared.record.renew_time) == ("t0", "t2")
    assert one.leads(11.9)
    assert shared.record.transitions == 0


def test_a_silent_leader_is_replaced_one_duration_after_its_last_seen_change() -> None:
    shared, one, two = Shared(), Elector("one", POLICY), Elector("two", POLICY)
    shared.write(one, 0)
    assert not shared.write(two, 7)
    assert not shared.write(two, 21.9), "seen first at 7, so alive until 22"
    assert shared.write(two, 22)
    assert two.leads(22)
    assert shared.record is not None
    assert shared.record.transitions == 1


def test_a_leader_that_was_paused_knows_that_it_leads_no_more() -> None:
    shared, one, two = Shared(), Elector("one", POLICY), Elector("two", POLICY)
    shared.write(one, 0)
    shared.write(two, 0.1)
    # `one` is stopped, say by SIGSTOP; `two` takes over; `one` wakes up without having read.
    assert shared.write(two, 15.1)
    assert not one.leads(15.1)
    assert not shared.write(one, 15.2)
    assert not one.leads(15.2)


def test_leadership_counts_from_the_beginning_of_a_slow_write() -> None:
    shared, one = Shared(), Elector("one", POLICY)
    shared.write(one, 0, took=9)
    assert one.leads_until == 10


def test_two_never_lead_at_once_whatever_is_slow() -> None:
    """All mixes of candidates that run, stall or read late over a minute of whole seconds."""
    for pattern in range(1 << 10):
        shared, one, two = Shared(), Elector("one", POLICY), Elector("two", POLICY)
        for second in range(0, 60, 2):
            bit = (second // 2) % 10
            if not pattern >> bit & 1:
                shared.write(one, float(second))
            if pattern >> ((bit + 3) % 10) & 1:
                shared.write(two, second + 1.0)
            for moment in (second, second + 0.5, second + 1.0, second + 1.5):
                assert not (one.leads(moment) and two.leads(moment)), (pattern, moment)


def test_a_released_lease_is_taken_at_once() -> None:
    shared, one, two = Shared(), Elector("one", POLICY), Elector("two", POLICY)
    assert one.release("t") is None
    shared.write(one, 0)
    shared.write(two, 0)
    release = one.release("t1")
    assert release is not None
    assert not one.leads(0.5)
    shared.put(release)
    assert shared.write(two, 1)
    assert two.release("t") is not None
    assert one.release("t") is not None, "of a version that the server will refuse"


def test_a_candidate_that_restarts_under_its_name_renews_but_leads_only_after_writing() -> None:
    shared, one = Shared(), Elector("one", POLICY)
    shared.write(one, 0)
    again = Elector("one", POLICY)
    again.seen(shared.record, 3)
    assert not again.leads(3)
    assert isinstance(again.decide("t3", 3), Replace)


def test_a_deleted_lease_ends_leadership_and_is_created_anew() -> None:
    shared, one = Shared(), Elector("one", POLICY)
    shared.write(one, 0)
    shared.record = None
    one.seen(None, 1)
    assert not one.leads(1)
    assert shared.write(one, 1)


@pytest.mark.parametrize("times", [(15, 15, 2), (15, 10, 10), (5, 10, 2), (15, 10, 0)])
def test_times_that_allow_two_leaders_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="two may lead"):
        ElectionPolicy(*times)


def test_a_candidate_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        Elector("", POLICY)


# --- backoff ----------------------------------------------------------------------------------


def test_delays_double_up_to_the_ceiling_and_start_over_after_a_success() -> None:
    backoff = Backoff(BackoffPolicy(base=1, cap=10))
    assert [backoff.fail(0.0) for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    assert backoff.failures == 6
    backoff.succeed()
    assert backoff.fail(0.0) == 0.5


def test_jitter_spreads_over_the_second_half_of_the_delay() -> None:
    assert Backoff(BackoffPolicy(base=8, cap=10)).fail(0.5) == 6


def test_a_server_that_asks_for_time_gets_it_and_not_all_come_back_at_once() -> None:
    delays = {Backoff(BackoffPolicy(base=1, cap=10)).fail(jitter, 30) for jitter in (0.0, 0.9)}
    assert min(delays) == 30
    assert len(delays) == 2


def test_a_million_failures_stay_finite() -> None:
    backoff = Backoff(BackoffPolicy(base=1, cap=10))
    for _ in range(100_000):
        assert backoff.fail(0.99) <= 10


def test_a_holder_that_is_known_to_have_ended_is_not_waited_for() -> None:
    elector = Elector("me", POLICY)
    record = LeaseRecord(holder="other", duration=15.0, renew_time="t", transitions=3, version="7")
    elector.seen(record, now=100.0)
    assert elector.decide("now", 100.0) == Wait("other")
    taken = elector.decide("now", 100.0, ended=True)
    assert isinstance(taken, Replace)
    assert (taken.record.holder, taken.record.version, taken.record.transitions) == ("me", "7", 4)
