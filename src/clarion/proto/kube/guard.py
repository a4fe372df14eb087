"""Deletions that somebody meant, told apart from objects that vanish with the ground they stand on.

Who deletes a CustomResourceDefinition or a namespace by mistake deletes every object in it: the
server sends a DELETED event for each, as if each had been deleted on purpose. And an API server
whose etcd was lost answers every list with nothing. So a deletion is held for a moment, and the
server is asked whether the ground of the objects still stands: the same definition, the same
namespace, the same cluster as before. If it does, the deletion takes force. If it does not, the
objects stay in force as orphans. Ground that was laid anew is taken for the old one's successor
when objects appear on it; what was not restored a while after the last of these is then dropped.

The question needs no guess about timing: the server marks a definition or namespace as going
before it deletes the first object in it.
"""

from enum import Enum

import msgspec

from clarion.proto.kube.wire import Key


class GuardPolicy(msgspec.Struct, frozen=True):
    """Times in seconds."""

    hold: float = 0.25  # an object that is replaced is back within this
    settle: float = 10.0  # after the last restored object before the unrestored are dropped
    retry: float = 1.0  # when the server could not be asked
    remind: float = 60.0  # how often a lasting loss is told again


class Ground(Enum):
    """The server's answer to whether what the objects stand on is there."""

    SAME = "same"
    LAID_ANEW = "laid anew"  # under the same name; whether the objects are back is another matter
    LOST = "lost"  # not there, or about to go, or another cluster's
    UNKNOWN = "unknown"  # no answer


class DeletionGuard:
    """Decides when the deletion of an object takes force.

    The caller feeds what happens; when `deadline` has come it calls `due`, asks the server if that
    returns true, feeds the answer to `asked`, and drops what `take_released` gives.
    """

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._held: dict[Key, float] = {}
        self._orphans: set[Key] = set()
        self._released: list[Key] = []
        self._lost = False
        self._settle_at: float | None = None

    @property
    def lost(self) -> bool:
        """Whether the ground was lost and what stood on it is not restored yet."""
        return self._lost

    @property
    def orphans(self) -> frozenset[Key]:
        """Objects that stay in force although the server has them no more."""
        return frozenset(self._orphans)

    @property
    def deadline(self) -> float | None:
        """When to call `due`; None while nothing waits."""
        if self._lost:
            return self._settle_at
        return min(self._held.values(), default=None)

    def removed(self, key: Key, now: float) -> None:
        """The server has this object no more."""
        if self._lost:
            self._orphans.add(key)
        else:
            self._held[key] = now + self._policy.hold

    def upserted(self, key: Key, now: float) -> None:
        """The server has this object, new or again."""
        self._held.pop(key, None)
        self._orphans.discard(key)
        if self._lost:
            self._settle_at = now + self._policy.settle

    def due(self, now: float) -> bool:
        """Whether the server must be asked now."""
        deadline = self.deadline
        return deadline is not None and deadline <= now

    def asked(self, answer: Ground, began: float, now: float, in_force: int) -> None:
        """The server answered a question.

        Args:
            answer: What it said.
            began: When the question was put.
            now: The time.
            in_force: How many objects the caller has, those included that are held or orphans.
        """
        if answer is Ground.UNKNOWN:
            self._ask_again(began, now + self._policy.retry)
        elif self._lost:
            self._asked_after_loss(answer, began)
        elif answer is Ground.SAME:
            for key in [key for key, until in self._held.items() if until <= began]:
                del self._held[key]
                self._released.append(key)
        else:
            self._lost = True
            self._orphans.update(self._held)
            self._held.clear()
            restored = answer is Ground.LAID_ANEW and in_force > len(self._orphans)
            self._settle_at = now + self._policy.settle if restored else None

    def _ask_again(self, began: float, at: float) -> None:
        if self._lost:
            self._settle_at = at
        for key, until in self._held.items():
            if until <= began:
                self._held[key] = at

    def _asked_after_loss(self, answer: Ground, began: float) -> None:
        if self._settle_at is None or self._settle_at > began:
            return  # more was restored while the server was asked
        self._settle_at = None
        if answer is not Ground.LOST:  # else it was a last change of an object that is going
            self._lost = False
            self._released += sorted(self._orphans)
            self._orphans.clear()

    def take_released(self) -> list[Key]:
        """Objects whose deletion now takes force."""
        released, self._released = self._released, []
        return released
