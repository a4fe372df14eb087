"""The configuration rules of Clarion as admission: the same `decide.config` as everywhere.

Only what the object itself brings is refused. A reference to something that does not exist yet is
let pass, since objects may be created in any order.
"""

from collections.abc import Iterator

from clarion.apiserver.resources import Resource, resources
from clarion.apiserver.status import Cause, Json
from clarion.apiserver.store import Entry, Key, Store
from clarion.decide.admission import configuring, judge, told
from clarion.decide.snapshot import FIELDS, Options, Snapshot
from clarion.model.codec import UndecodableError, decode, from_builtins
from clarion.model.core import Secret
from clarion.model.kinds import Kind, kind_of
from clarion.model.meta import KubeObject, ObjectKey


class ConfigAdmission:
    """Asks `decide.config` about configuration objects, in the light of what is stored."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._judged = {
            resource.id: resource.stored
            for resource in resources().values()
            if resource.custom and resource.stored.struct in FIELDS
        }

    def admit(self, resource: Resource, key: Key, new: Json, old: Json | None) -> list[Cause]:
        """Every problem that `new` brings; empty when it may be stored."""
        kind = self._judged.get(resource.id)
        if kind is None or (old is not None and configuring(new) == configuring(old)):
            return []
        try:
            candidate = from_builtins(new, kind.struct)
        except UndecodableError as error:
            return [Cause("", error.message)]
        stored = Snapshot.from_objects(self._objects(), self._options)
        found = judge(stored, candidate).errors
        return [
            Cause(problem.path, told(problem, ObjectKey(key.namespace, key.name)))
            for problem in found
        ]

    def _objects(self) -> Iterator[KubeObject]:
        for resource, kind in self._judged.items():
            for entry in self._store.latest_of(resource):
                obj = _read(entry, kind)
                if obj is not None:
                    yield obj
        secrets = kind_of(Secret)
        for entry in self._store.latest_of(secrets.plural):
            obj = _read(entry, secrets)
            if obj is not None:
                yield obj


def _read(entry: Entry, kind: Kind) -> KubeObject | None:
    """A stored object; one that cannot be read is no concern of the others."""
    try:
        return decode(entry.body, kind.struct)
    except UndecodableError:
        return None
