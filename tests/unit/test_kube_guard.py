"""A deleted object is let go; objects that vanish with what they stand on are kept."""

import pytest

from clarion.proto.kube.guard import DeletionGuard, Ground, GuardPolicy

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


def guard() -> DeletionGuard:
    return DeletionGuard(GuardPolicy(hold=1, settle=10, retry=5))


def deadline(it: DeletionGuard) -> float | None:
    return it.deadline


def lost(it: DeletionGuard) -> bool:
    return it.lost


def test_a_deletion_takes_force_after_the_server_was_asked() -> None:
    it = guard()
    assert deadline(it) is None
    it.removed(A, 100)
    assert deadline(it) == 101
    assert not it.due(100.9)
    assert it.due(101)
    it.removed(B, 101.5)  # after the question was put: it says nothing about this one
    it.asked(Ground.SAME, 101, 102, in_force=3)
    assert it.take_released() == [A]
    assert it.take_released() == []
    assert deadline(it) == 102.5


def test_an_object_that_is_back_in_time_was_never_gone() -> None:
    it = guard()
    it.removed(A, 100)
    it.upserted(A, 100.5)
    assert deadline(it) is None
    it.asked(Ground.SAME, 101, 101, in_force=1)
    assert it.take_released() == []


def test_while_the_server_does_not_answer_nothing_is_dropped() -> None:
    it = guard()
    it.removed(A, 100)
    for now in (101, 106, 111):
        assert it.due(now)
        it.asked(Ground.UNKNOWN, now, now, in_force=1)
        assert it.take_released() == []
        assert deadline(it) == now + 5


def lose(it: DeletionGuard, *keys: tuple[str, str], at: float = 100) -> None:
    """These objects vanish, and the server says that what they stood on is gone."""
    for key in keys:
        it.removed(key, at)
    assert it.due(at + 1)
    it.asked(Ground.LOST, at + 1, at + 1, in_force=len(keys))


def test_objects_of_lost_ground_stay_until_some_are_restored_and_it_is_quiet() -> None:
    it = guard()
    lose(it, A, B, C)
    assert lost(it)
    assert it.orphans == {A, B, C}
    assert deadline(it) is None, "ground laid anew and left empty drops nothing, ever"
    it.upserted(A, 500)
    it.upserted(B, 505)
    assert deadline(it) == 515
    assert not it.due(514)
    assert it.due(515)
    it.asked(Ground.LAID_ANEW, 515, 516, in_force=3)
    assert not lost(it)
    assert it.take_released() == [C]
    assert it.orphans == frozenset()
    it.removed(A, 600)
    assert deadline(it) == 601, "as before"


@pytest.mark.parametrize(
    ("answer", "then"), [(Ground.LOST, None), (Ground.UNKNOWN, 116 + 5)], ids=str
)
def test_a_last_change_of_an_object_that_is_going_restores_nothing(
    answer: Ground, then: float | None
) -> None:
    it = guard()
    lose(it, A, B)
    it.upserted(C, 105)  # its finalizer is seen to; the definition is still going
    it.removed(C, 106)
    assert it.due(115)
    it.asked(answer, 115, 116, in_force=3)
    assert it.take_released() == []
    assert it.orphans == {A, B, C}
    assert deadline(it) == then


def test_more_that_is_restored_while_the_server_is_asked_is_waited_for() -> None:
    it = guard()
    lose(it, A, B)
    it.upserted(A, 200)
    assert it.due(210)
    it.upserted(B, 210.5)
    it.asked(Ground.LAID_ANEW, 210, 211, in_force=2)
    assert lost(it)
    assert deadline(it) == 220.5


def test_what_was_restored_before_the_loss_was_seen_counts() -> None:
    it = guard()
    it.upserted(A, 100)  # one list, after an outage, tells of both
    it.removed(B, 100)
    it.asked(Ground.LAID_ANEW, 101, 101, in_force=2)
    assert it.orphans == {B}
    assert deadline(it) == 111
    it.asked(Ground.LAID_ANEW, 111, 111, in_force=2)
    assert it.take_released() == [B]


def test_ground_laid_anew_and_empty_keeps_all() -> None:
    it = guard()
    it.removed(A, 100)
    it.removed(B, 100)
    it.asked(Ground.LAID_ANEW, 101, 101, in_force=2)
    assert it.orphans == {A, B}
    assert deadline(it) is None


def test_a_second_loss_while_settling_keeps_all() -> None:
    it = guard()
    lose(it, A)
    it.upserted(B, 200)
    it.removed(B, 205)
    assert it.due(210)
    it.asked(Ground.LOST, 210, 210, in_force=2)
    assert it.take_released() == []
    assert it.orphans == {A, B}
    assert deadline(it) is None
