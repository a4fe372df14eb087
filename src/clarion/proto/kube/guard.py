"""Deletions of custom objects, told apart from the deletion of their definition.

Who deletes a CustomResourceDefinition by mistake deletes every object of the kind: the server
sends a DELETED event for each, as if each had been deleted on purpose, and only then stops serving
the kind. So a deletion is held for a moment, and the server is asked whether it still serves the
kind in full. If it does, the deletion stands. If it does not, the objects stay in force: they are
orphans until the kind is back and objects of it appear again; what was not restored a while after
the last of these is then dropped.
"""

from enum import Enum

import msgspec

from clarion.proto.kube.wire import Key


class GuardPolicy(msgspec.Struct, frozen=True):
    """Times in seconds."""

    hold: float = 0.25  # a definition is marked as going before the first of its objects goes
    settle: float = 10.0  # after the last restored object before the unrestored are dropped
    retry: float = 1.0  # when the server could not be asked


class Served(Enum):
    """The server's answer to whether it serves the kind."""

    IN_FULL = "in full"
    NOT = "not"  # not at all, or only to empty it
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

    def missing(self) -> None:
        """The server does not serve the kind."""
        self._lost = True
        self._settle_at = None
        self._orphans.update(self._held)
        self._held.clear()

    def due(self, now: float) -> bool:
        """Whether the server must be asked now; what else is due is released."""
        if not self._lost:
            return any(until <= now for until in self._held.values())
        if self._settle_at is not None and self._settle_at <= now:
            self._lost = False
            self._settle_at = None
            self._released += sorted(self._orphans)
            self._orphans.clear()
        return False

    def asked(self, answer: Served, began: float, now: float) -> None:
        """The server answered a question that was put at `began`."""
        if answer is Served.NOT:
            self.missing()
            return
        for key in [key for key, until in self._held.items() if until <= began]:
            if answer is Served.IN_FULL:
                del self._held[key]
                self._released.append(key)
            else:
                self._held[key] = now + self._policy.retry

    def take_released(self) -> list[Key]:
        """Objects whose deletion now takes force."""
        released, self._released = self._released, []
        return released
