"""Who manages which fields (`metadata.managedFields`), and server-side apply on top of it.

Managers are recorded from the first server-side apply of an object on; what was there before is
then said to be managed by `before-first-apply`. So objects that nobody applies that way, which is
nearly all, carry no record.
"""

from typing import Any

import msgspec

from clarion.apiserver.fieldset import (
    FieldSet,
    Schema,
    compare,
    difference,
    fields_of,
    from_v1,
    intersection,
    merge,
    paths,
    remove,
    to_v1,
    union,
)
from clarion.apiserver.status import ApiError, Cause, Json, apply_conflict, bad_request
from clarion.apiserver.wire import decode

APPLY, UPDATE = "Apply", "Update"
BEFORE_FIRST_APPLY = "before-first-apply"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

# Nobody manages what identifies an object or what the server writes.
_UNMANAGED_META = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


class Author(msgspec.Struct, frozen=True):
    """Who writes, and through what."""

    manager: str
    api_version: str
    subresource: str
    now: str


class _Manager(msgspec.Struct, frozen=True):
    """One entry of `managedFields`."""

    name: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: FieldSet

    def is_of(self, author: Author, operation: str) -> bool:
        return (self.name, self.operation, self.subresource) == (
            author.manager,
            operation,
            author.subresource,
        )

    def to_entry(self) -> Json:
        entry: Json = {
            "manager": self.name,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_v1(self.fields),
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


def _read(meta: Json) -> list[_Manager]:
    return [
        _Manager(
            str(entry.get("manager", "")),
            str(entry.get("operation", "")),
            str(entry.get("apiVersion", "")),
            str(entry.get("subresource", "")),
            str(entry.get("time", "")),
            from_v1(entry.get("fieldsV1")),
        )
        for entry in meta.get("managedFields") or []
        if entry
    ]


def _write(meta: Json, managers: list[_Manager]) -> None:
    entries = [one.to_entry() for one in managers if one.fields]
    if entries:
        meta["managedFields"] = entries
    else:
        meta.pop("managedFields", None)


def _managed_part(body: Json) -> Json:
    """The object without what nobody manages."""
    part = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
    meta = {
        name: value
        for name, value in body.get("metadata", {}).items()
        if name not in _UNMANAGED_META
    }
    part.pop("metadata", None)
    return part | ({"metadata": meta} if meta else {})


def same(new: Json, old: Json) -> bool:
    """True if a write would change nothing."""
    return new == old


def track(schema: Schema, old: Json, new: Json, author: Author) -> None:
    """Note in `new` that its changes are the author's; only for objects that are tracked."""
    managers = _read(old["metadata"])
    given = new["metadata"].get("managedFields")
    if not managers or given in ([], [{}]):
        # A client may end the tracking by sending an empty list, as in Kubernetes.
        new["metadata"].pop("managedFields", None)
        return
    found = compare(schema, _managed_part(old), _managed_part(new))
    if not found.changed and not found.removed:
        _write(new["metadata"], managers)
        return
    gone = union(found.changed, found.removed)
    result = []
    own: FieldSet = {}
    for one in managers:
        if one.is_of(author, UPDATE):
            own = difference(one.fields, found.removed)
        else:
            result.append(msgspec.structs.replace(one, fields=difference(one.fields, gone)))
    own = union(own, found.changed)
    result.append(_manager(author, UPDATE, own))
    _write(new["metadata"], result)


def _manager(author: Author, operation: str, fields: FieldSet) -> _Manager:
    return _Manager(
        author.manager, operation, author.api_version, author.subresource, author.now, fields
    )


def apply(schema: Schema, live: Json | None, applied: Json, author: Author, *, force: bool) -> Json:
    """The object after a server-side apply.

    Raises:
        ApiError: 409, others manage fields that would change.
    """
    if _LAST_APPLIED in applied.get("metadata", {}).get("annotations", {}):
        raise bad_request(f"metadata.annotations.{_LAST_APPLIED}: must not be applied")
    wanted = fields_of(schema, _managed_part(_part_written(applied, author)))
    if live is None:
        new = {**applied, "metadata": dict(applied.get("metadata", {}))}
        _write(new["metadata"], [_manager(author, APPLY, wanted)])
        return new
    managers = _read(live["metadata"]) or [_before_first_apply(schema, live)]
    others = [one for one in managers if not one.is_of(author, APPLY)]
    mine = next((one for one in managers if one.is_of(author, APPLY)), None)
    merged = merge(schema, live, _part_written(applied, author))
    if mine is not None:
        theirs: FieldSet = {}
        for one in others:
            theirs = union(theirs, one.fields)
        dropped = difference(mine.fields, wanted)
        merged = remove(schema, merged, difference(dropped, theirs), union(theirs, wanted))
    found = compare(schema, _managed_part(live), _managed_part(merged))
    conflicts = [(one, intersection(one.fields, found.changed)) for one in others]
    conflicts = [(one, fields) for one, fields in conflicts if fields]
    if conflicts and not force and not _upgrades(schema, live, author, conflicts):
        raise _refusal(conflicts)
    gone = union(found.changed, found.removed)
    kept = [msgspec.structs.replace(one, fields=difference(one.fields, gone)) for one in others]
    entry = _manager(author, APPLY, wanted)
    if mine is not None and mine.fields == wanted:
        entry = mine
    new = {**merged, "metadata": dict(merged.get("metadata", {}))}
    _write(new["metadata"], [entry, *kept])
    return new


def _part_written(applied: Json, author: Author) -> Json:
    """Status belongs to its subresource; applied elsewhere it is ignored, and the reverse."""
    if author.subresource == "status":
        return {
            name: value
            for name, value in applied.items()
            if name in ("apiVersion", "kind", "metadata", "status")
        }
    return {name: value for name, value in applied.items() if name != "status"}


def _before_first_apply(schema: Schema, live: Json) -> _Manager:
    fields = fields_of(schema, _managed_part(live))
    created = str(live["metadata"].get("creationTimestamp", ""))
    return _Manager(
        BEFORE_FIRST_APPLY, UPDATE, str(live.get("apiVersion", "")), "", created, fields
    )


def _upgrades(
    schema: Schema, live: Json, author: Author, conflicts: list[tuple[_Manager, FieldSet]]
) -> bool:
    """Whether kubectl goes over from client-side to server-side apply.

    What it wrote itself, as its annotation on the object says, is no conflict, as in Kubernetes.
    """
    text = live["metadata"].get("annotations", {}).get(_LAST_APPLIED)
    if author.manager != "kubectl" or not text:
        return False
    try:
        last: Any = decode(text.encode())
    except msgspec.DecodeError:
        return False
    if not isinstance(last, dict):
        return False
    own = fields_of(schema, _managed_part(last))
    return not any(difference(fields, own) for _, fields in conflicts)


def _refusal(conflicts: list[tuple[_Manager, FieldSet]]) -> ApiError:
    causes = []
    for one, fields in conflicts:
        where = f' with subresource "{one.subresource}"' if one.subresource else ""
        version = f" using {one.api_version}" if one.operation == UPDATE else ""
        who = f'"{one.name}"{where}{version}'
        causes += [
            Cause(path, f"conflict with {who}", "FieldManagerConflict") for path in paths(fields)
        ]
    return apply_conflict(causes)
