"""What admission says of an object about to be written: the errors it brings, and warnings.

Only what the object itself brings is refused. A reference to something that does not exist yet
passes, since objects may be created in any order, and so does an error that was there before: a
broken neighbour does not block a good change.
"""

import msgspec

from clarion.decide.config import build_config
from clarion.decide.config_build import ref
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.snapshot import Snapshot
from clarion.model.annotations import CONVERSION_DATA, OWN_PREFIX, RESTING
from clarion.model.meta import JSONObject, KubeObject, ObjectKey

_WRITTEN_BY_PROGRAMS = frozenset({CONVERSION_DATA, RESTING})


class Verdict(msgspec.Struct, frozen=True):
    """What is to be said of an object.

    Attributes:
        errors: Why it is refused; empty: it may be stored.
        warnings: What hardly works as meant, and what waits for objects that do not exist yet.
    """

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class Ground:
    """What is stored, checked once, on which any number of objects can be judged.

    Args:
        snapshot: The objects as stored.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._before = build_config(snapshot)
        self._known = set(map(_identity, self._before.errors))

    def judge(self, candidate: KubeObject) -> Verdict:
        """Judge an object as it would be stored, instead of its old version if there is one."""
        stored = self._snapshot
        others = [
            obj
            for obj in stored.objects()
            if not (type(obj) is type(candidate) and obj.key == candidate.key)
        ]
        after = Snapshot.from_objects(
            [*others, candidate],
            stored.options,
            speakers=stored.speakers,
            interfaces=stored.interfaces,
        )
        own = ref(candidate)
        # What is stored goes before what is new: of two that exclude one another, the new one is
        # named.
        result = build_config(after, self._before.config)
        return Verdict(
            errors=tuple(
                problem
                for problem in result.errors
                if not problem.transient
                and (problem.object == own or own in problem.related)
                and (problem.object == own or _identity(problem) not in self._known)
            ),
            warnings=tuple(
                problem
                for problem in result.problems
                if problem.object == own and (problem.transient or problem.severity == "warning")
            ),
        )


def judge(snapshot: Snapshot, candidate: KubeObject) -> Verdict:
    """Judge one object as it would be stored, by the same check as everywhere.

    Args:
        snapshot: The objects as stored, without or with the old version of the candidate.
        candidate: The object as it would be stored.
    """
    return Ground(snapshot).judge(candidate)


def _identity(problem: Problem) -> tuple[str, ObjectRef, str, str]:
    return problem.code, problem.object, problem.path, problem.message


def configuring(obj: JSONObject) -> tuple[object, dict[str, str]]:
    """What of a plain object is configuration: its spec, and annotations that are read like it."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    own = {
        key: value
        for key, value in annotations.items()
        if key.startswith(OWN_PREFIX) and key not in _WRITTEN_BY_PROGRAMS
    }
    return obj.get("spec"), own


def told(problem: Problem, key: ObjectKey) -> str:
    """A problem in words for whoever writes the object `key`: what, the remedy, the code."""
    about = problem.object
    other = about.name != key.name or about.namespace != key.namespace
    prefix = f"{about}: " if other else ""
    remedy = f" ({problem.remedy})" if problem.remedy else ""
    return f"{prefix}{problem.message}{remedy} [{problem.code}]"
