"""Strategic merge patch: a merge that knows which lists have keys.

Keys and strategies come from the schema (`x-kubernetes-patch-merge-key`,
`x-kubernetes-patch-strategy`). The directives are those of Kubernetes: `$patch` (replace, delete,
merge), `$retainKeys`, `$setElementOrder/FIELD` and `$deleteFromPrimitiveList/FIELD`.
"""

from typing import Any

from clarion.apiserver.status import Json, bad_request

Schema = dict[str, Any]

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_FROM = "$deleteFromPrimitiveList/"


def merge_strategic(schema: Schema, target: Json, patch: Json) -> Json:
    """The object after the patch.

    Raises:
        ApiError: 400, a directive that makes no sense.
    """
    patch = dict(patch)
    directive = patch.pop(_PATCH, None)
    if directive == "replace":
        return {name: _plain(value) for name, value in patch.items() if value is not None}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f'unknown {_PATCH} directive: "{directive}"')
    result = dict(target)
    kept = patch.pop(_RETAIN, None)
    if kept is not None:
        result = _retain(result, patch, kept)
    orders = _take_prefixed(patch, _ORDER)
    for field, values in _take_prefixed(patch, _DELETE_FROM).items():
        present = result.get(field)
        if isinstance(present, list):
            result[field] = [value for value in present if value not in values]
    for field, value in patch.items():
        part = _field_schema(schema, field)
        if value is None:
            result.pop(field, None)
        elif isinstance(value, dict):
            before = result.get(field)
            merged = merge_strategic(part, before if isinstance(before, dict) else {}, value)
            if value.get(_PATCH) == "delete":
                result.pop(field, None)
            else:
                result[field] = merged
        elif isinstance(value, list):
            result[field] = _merge_list(part, result.get(field), value, orders.pop(field, None))
        else:
            result[field] = value
    for field, order in orders.items():
        part = _field_schema(schema, field)
        if isinstance(result.get(field), list):
            result[field] = _ordered(part, result[field], order, [])
    return result


def _retain(target: Json, patch: Json, kept: Any) -> Json:
    if not isinstance(kept, list):
        raise bad_request(f"{_RETAIN} must be a list")
    extra = [name for name in patch if name not in kept and not name.startswith("$")]
    if extra:
        raise bad_request(f"{_RETAIN} does not hold the field {extra[0]} of the patch")
    return {name: value for name, value in target.items() if name in kept}


def _take_prefixed(patch: Json, prefix: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in [name for name in patch if name.startswith(prefix)]:
        value = patch.pop(name)
        if not isinstance(value, list):
            raise bad_request(f"{name} must be a list")
        found[name.removeprefix(prefix)] = value
    return found


def _field_schema(schema: Schema, field: str) -> Schema:
    part = schema.get("properties", {}).get(field)
    if part is None:
        part = schema.get("additionalProperties")
    return part if isinstance(part, dict) else {}


def _plain(value: Any) -> Any:
    """A patch value as data: directives taken out, nulls dropped."""
    if isinstance(value, dict):
        return {
            name: _plain(part)
            for name, part in value.items()
            if not name.startswith("$") and part is not None
        }
    if isinstance(value, list):
        return [
            _plain(part)
            for part in value
            if not (isinstance(part, dict) and part.get(_PATCH) in ("delete", "replace"))
        ]
    return value


def _merge_list(schema: Schema, target: Any, patch: list[Any], order: list[Any] | None) -> Any:
    present = target if isinstance(target, list) else []
    if schema.get("x-kubernetes-patch-strategy") != "merge":
        return _plain(patch)
    key = schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        added = [value for value in patch if value not in present]
        merged = [*present, *added]
        return _ordered(schema, merged, patch if order is None else order, present)
    return _merge_by_key(schema, key, present, patch, order)


def _merge_by_key(
    schema: Schema, key: str, present: list[Any], patch: list[Any], order: list[Any] | None
) -> list[Any]:
    items = schema.get("items", {})
    if any(isinstance(one, dict) and one.get(_PATCH) == "replace" for one in patch):
        return list(_plain(patch))
    result = list(present)
    for change in patch:
        if not isinstance(change, dict) or change.get(key) is None:
            raise bad_request(f"map: {change} does not contain declared merge key: {key}")
        places = [
            place
            for place, one in enumerate(result)
            if isinstance(one, dict) and one.get(key) == change[key]
        ]
        if change.get(_PATCH) == "delete":
            result = [one for place, one in enumerate(result) if place not in places]
        elif places:
            result[places[0]] = merge_strategic(items, result[places[0]], change)
        else:
            result.append(merge_strategic(items, {}, change))
    return _ordered(schema, result, patch if order is None else order, present)


def _ordered(schema: Schema, merged: list[Any], order: list[Any], present: list[Any]) -> list[Any]:
    """Items named by the patch in its order; the others stay where they stood among them.

    What is new goes before those that the patch does not name, as in Kubernetes.
    """
    key = schema.get("x-kubernetes-patch-merge-key")

    def identity(item: Any) -> Any:
        return item.get(key) if key is not None and isinstance(item, dict) else item

    wanted = [identity(item) for item in order]
    named = sorted(
        (item for item in merged if identity(item) in wanted),
        key=lambda item: wanted.index(identity(item)),
    )
    others = [item for item in merged if identity(item) not in wanted]
    before = [identity(item) for item in present or merged]
    result: list[Any] = []
    for item in others:
        place = before.index(identity(item)) if identity(item) in before else len(before)
        while named and not _stands_behind(before, identity(named[0]), place):
            result.append(named.pop(0))
        result.append(item)
    return result + named


def _stands_behind(before: list[Any], identity: Any, place: int) -> bool:
    return identity in before and before.index(identity) > place
