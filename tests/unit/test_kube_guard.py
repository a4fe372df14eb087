"""A deleted object is let go; the objects of a deleted definition are kept."""

from clarion.proto.kube.guard import DeletionGuard, GuardPolicy, Served

A, B, C = ("ns", "a"), ("ns", "b"), ("ns", "c")


def guard() -> DeletionGuard:
    return DeletionGuard(GuardPolicy(hold=1, settle=10, retry=5))


def deadline(it: DeletionGuard) -> float | None:
    return it.deadline


def test_a_deletion_takes_force_after_the_server_was_asked() -> None:
    it = guard()
    assert deadline(it) is None
    it.removed(A, 100)
    assert deadline(it) == 101
    assert not it.due(100.9)
    assert it.due(101)
    it.removed(B, 101.5)  # after the question was put: it says nothing about this one
    it.asked(Served.IN_FULL, 101, 102)
    assert it.take_released() == [A]
    assert it.take_released() == []
    assert deadline(it) == 102.5


def test_an_object_that_is_back_in_time_was_never_gone() -> None:
    it = guard()
    it.removed(A, 100)
    it.upserted(A, 100.5)
    assert deadline(it) is None
    it.asked(Served.IN_FULL, 101, 101)
    assert it.take_released() == []


def test_while_the_server_does_not_answer_nothing_is_dropped() -> None:
    it = guard()
    it.removed(A, 100)
    for now in (101, 106, 111):
        assert it.due(now)
        it.asked(Served.UNKNOWN, now, now)
        assert it.take_released() == []
        assert deadline(it) == now + 5


def test_the_objects_of_a_deleted_definition_stay_until_some_are_restored_and_it_is_quiet() -> None:
    it = guard()
    for key in (A, B, C):
        it.removed(key, 100)
    assert it.due(101)
    it.asked(Served.NOT, 101, 101)
    assert it.orphans == {A, B, C}
    assert deadline(it) is None, "a definition restored empty drops nothing, ever"
    assert not it.due(1e9)
    it.upserted(A, 500)
    it.upserted(B, 505)
    assert deadline(it) == 515
    assert not it.due(514)
    assert it.take_released() == []
    assert not it.due(515)
    assert it.take_released() == [C]
    assert it.orphans == frozenset()
    it.removed(A, 600)
    assert deadline(it) == 601, "as before"


def test_a_list_after_the_loss_that_lacks_them_drops_nothing() -> None:
    it = guard()
    it.missing()
    it.removed(A, 100)
    assert it.orphans == {A}
    assert deadline(it) is None
    it.upserted(A, 200)
    assert it.orphans == frozenset()
    it.due(210)
    assert it.take_released() == []


def test_a_second_loss_while_settling_starts_over() -> None:
    it = guard()
    it.missing()
    it.removed(A, 0)
    it.upserted(B, 100)
    it.missing()
    assert deadline(it) is None
    it.due(1000)
    assert it.take_released() == []
