"""Sets of fields of an object, and the walks over schema and values that make and use them.

A set is a tree of path elements as in `metadata.managedFields`: `f:NAME` is a field, `k:{...}` an
item of a keyed list, `v:...` an item of a set. The entry `.` says that the path to here is itself
a member. How lists and maps are taken apart follows the schema, as in Kubernetes: lists are whole
unless they have keys or are sets, maps are taken apart unless they are atomic.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from clarion.apiserver.wire import decode, encode

Schema = dict[str, Any]
FieldSet = dict[str, Any]

_SELF = "."


def _member() -> FieldSet:
    return {_SELF: {}}


# Set algebra.


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """Members of either."""
    result = dict(one)
    for step, part in other.items():
        result[step] = {} if step == _SELF else union(result.get(step, {}), part)
    return result


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """Members of `one` that `other` has not."""
    result: FieldSet = {}
    for step, part in one.items():
        if step == _SELF:
            if _SELF not in other:
                result[_SELF] = {}
        elif left := difference(part, other.get(step, {})):
            result[step] = left
    return result


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """Members of both."""
    result: FieldSet = {}
    for step, part in one.items():
        if step not in other:
            continue
        if step == _SELF:
            result[_SELF] = {}
        elif common := intersection(part, other[step]):
            result[step] = common
    return result


def paths(fields: FieldSet, prefix: str = "") -> Iterator[str]:
    """Members as people read them: `.spec.ports[port=80,protocol="TCP"].nodePort`."""
    for step, part in sorted(fields.items()):
        if step == _SELF:
            if prefix:
                yield prefix
        else:
            yield from paths(part, prefix + _shown(step))


def _shown(step: str) -> str:
    style, _, text = step.partition(":")
    if style == "f":
        return f".{text}"
    if style == "k":
        pairs = sorted(decode(text.encode()).items())
        return "[" + ",".join(f"{key}={encode(value).decode()}" for key, value in pairs) + "]"
    return f"[={text}]"


def to_v1(fields: FieldSet) -> FieldSet:
    """The form in `managedFields`: a member without children is an empty object."""
    return {
        step: {} if step == _SELF or part == _member() else to_v1(part)
        for step, part in fields.items()
    }


def from_v1(stored: Any) -> FieldSet:
    """The tree of a stored set; what is not one is empty."""
    if not isinstance(stored, dict):
        return {}
    result: FieldSet = {}
    for step, part in stored.items():
        if step == _SELF:
            result[_SELF] = {}
        elif step[:2] in ("f:", "k:", "v:") and isinstance(part, dict):
            result[step] = from_v1(part) if part else _member()
    return result


# Taking values apart.


def _parts(schema: Schema, value: Any) -> dict[str, tuple[Schema, Any]] | None:
    """The parts of a value by path element; None if it is a leaf."""
    if isinstance(value, dict):
        if schema.get("x-kubernetes-map-type") == "atomic":
            return None
        return {f"f:{name}": (_child(schema, name), part) for name, part in value.items()}
    if isinstance(value, list):
        style = schema.get("x-kubernetes-list-type")
        items = schema.get("items", {})
        if style == "set":
            return {f"v:{encode(item).decode()}": ({}, item) for item in value}
        if style == "map" and all(isinstance(item, dict) for item in value):
            return {_key_step(schema, item): (items, item) for item in value}
    return None


def _child(schema: Schema, name: str) -> Schema:
    part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return part if isinstance(part, dict) else {}


def _key_step(schema: Schema, item: Any) -> str:
    properties = schema.get("items", {}).get("properties", {})
    keys = {}
    for name in schema["x-kubernetes-list-map-keys"]:
        value = item.get(name, properties.get(name, {}).get("default"))
        if value is not None:
            keys[name] = value
    return "k:" + msgspec.json.encode(dict(sorted(keys.items()))).decode()


def _is_declared(schema: Schema, step: str) -> bool:
    """Whether the element is a field that the schema names; others are members themselves."""
    return step.startswith("f:") and step[2:] in schema.get("properties", {})


def fields_of(schema: Schema, value: Any) -> FieldSet:
    """The set of what a configuration says."""
    parts = _parts(schema, value)
    if not parts:
        return _member()
    result: FieldSet = {}
    for step, (part_schema, part) in parts.items():
        inner = fields_of(part_schema, part)
        if not _is_declared(schema, step):
            inner = union(inner, _member())
        result[step] = inner
    return result


def _all_of(schema: Schema, value: Any) -> FieldSet:
    """Every path in a value, the containers included."""
    result = _member()
    for step, (part_schema, part) in (_parts(schema, value) or {}).items():
        result[step] = _all_of(part_schema, part)
    return result


class Comparison(msgspec.Struct, frozen=True):
    """What differs between two values."""

    changed: FieldSet
    removed: FieldSet


def compare(schema: Schema, old: Any, new: Any) -> Comparison:
    """Paths that are new or have another value, and paths that are gone."""
    before, after = _parts(schema, old), _parts(schema, new)
    if before is None or after is None or type(old) is not type(new):
        return Comparison({} if old == new else _member(), {})
    changed: FieldSet = {}
    removed: FieldSet = {}
    for step, (part_schema, part) in after.items():
        if step not in before:
            changed[step] = _all_of(part_schema, part)
            continue
        inner = compare(part_schema, before[step][1], part)
        if inner.changed:
            changed[step] = inner.changed
        if inner.removed:
            removed[step] = inner.removed
    for step, (part_schema, part) in before.items():
        if step not in after:
            removed[step] = _all_of(part_schema, part)
    return Comparison(changed, removed)


# Putting values together.


def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """`live` with everything that `applied` says."""
    if isinstance(applied, dict) and isinstance(live, dict):
        if schema.get("x-kubernetes-map-type") == "atomic":
            return applied
        result = dict(live)
        for name, part in applied.items():
            known = name in live
            result[name] = merge(_child(schema, name), live[name], part) if known else part
        return result
    if isinstance(applied, list) and isinstance(live, list):
        before, after = _parts(schema, live), _parts(schema, applied)
        if before is None or after is None:
            return applied
        merged = {
            step: merge(part_schema, before[step][1], part) if step in before else part
            for step, (part_schema, part) in after.items()
        }
        if set(before) <= set(after):
            return list(merged.values())
        kept = [merged.pop(step, part) for step, (_, part) in before.items()]
        return kept + list(merged.values())
    return applied


def remove(schema: Schema, value: Any, fields: FieldSet, kept: FieldSet) -> Any:
    """The value without the members of a set; what lies under a member of `kept` stays.

    Gives None when nothing is left.
    """
    if _SELF in fields and not kept:
        return None
    parts = _parts(schema, value)
    if parts is None:
        return value
    left: dict[str, Any] = {}
    touched = False
    for step, (part_schema, part) in parts.items():
        if step not in fields:
            left[step] = part
            continue
        rest = remove(part_schema, part, fields[step], kept.get(step, {}))
        touched = touched or rest is None
        if rest is not None:
            left[step] = rest
    if not left and touched:
        return None
    if isinstance(value, dict):
        return {step[2:]: part for step, part in left.items()}
    return list(left.values())
