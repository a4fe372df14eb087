"""Judging, completing and pruning plain objects by a structural schema; all pure.

Understood are the keywords that `schema.py` writes. Logical junctors (`allOf`, `not` and so on)
that strangers' CustomResourceDefinitions may hold are left to the embedded API's full validator.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from clarion.model.celrules import broken_rules
from clarion.model.meta import JSONObject

Schema = dict[str, Any]

_ABSENT: Any = object()
_DATE_TIME = re.compile(
    r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
)
_INTEGER_BITS = {"int32": 32, "int64": 64}
_TYPE_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}
_ROOT_FIELDS = ("apiVersion", "kind", "metadata")


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One fault of one field.

    Codes: WrongType, MissingField, UnknownField, NotAllowed, OutOfRange, WrongLength, WrongFormat,
    RuleBroken, DuplicateItem.
    """

    code: str
    path: str
    message: str
    remedy: str = ""
    value: Any = None


def validate(
    schema: Schema,
    value: Any,
    *,
    old: Any = _ABSENT,
    unknown_fields: bool = False,
    path: str = "",
) -> list[FieldError]:
    """All faults of a value, in the order of the document.

    Args:
        schema: What the value is judged by.
        value: The object, or a part of it.
        old: What the object was before; rules about changes are judged only if it is given.
        unknown_fields: Whether a field that the schema does not know is a fault.
        path: Where the value stands; the beginning of every reported path.
    """
    return list(_Judge(unknown_fields=unknown_fields).errors(schema, value, old, path))


def apply_defaults(schema: Schema, value: Any) -> Any:
    """A copy in which absent fields have their defaults.

    A null in a field that cannot be null is as if the field were absent.
    """
    if isinstance(value, list):
        items = schema.get("items", {})
        return [apply_defaults(items, item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    result: JSONObject = {}
    for key, item in value.items():
        child = _child_schema(schema, key)
        if child is None:
            result[key] = apply_defaults({}, item)
        elif item is not None or child.get("nullable"):
            result[key] = apply_defaults(child, item)
        elif key not in properties:
            result[key] = None
    for key, child in properties.items():
        if key not in result and "default" in child:
            result[key] = apply_defaults(child, apply_defaults({}, child["default"]))
    return result


def prune(schema: Schema, value: Any, *, root: bool = True) -> Any:
    """A copy without the fields that the schema does not know.

    At the root of an object apiVersion, kind and metadata always stay.
    """
    if isinstance(value, list):
        items = schema.get("items", {})
        return [prune(items, item, root=False) for item in value]
    if not isinstance(value, dict):
        return value
    whole_object = root or schema.get("x-kubernetes-embedded-resource") is True
    result: JSONObject = {}
    for key, item in value.items():
        child = _child_schema(schema, key)
        if whole_object and key in _ROOT_FIELDS and not (child or {}).get("properties"):
            result[key] = item
        elif child is not None:
            result[key] = prune(child, item, root=False)
        elif schema.get("x-kubernetes-preserve-unknown-fields"):
            result[key] = item
    return result


def _child_schema(schema: Schema, key: str) -> Schema | None:
    """The schema of one field of an object, None if the schema does not know the field."""
    child: Schema | None = schema.get("properties", {}).get(key)
    if child is None:
        extra = schema.get("additionalProperties")
        return extra if isinstance(extra, dict) else ({} if extra else None)
    return child


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """The known name that the user most probably meant, None if nothing is near."""
    import difflib

    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[near[0]] if near else None


class _Judge:
    """One pass over a value; holds only whether unknown fields count."""

    def __init__(self, *, unknown_fields: bool) -> None:
        self._unknown_fields = unknown_fields

    def errors(self, schema: Schema, value: Any, old: Any, path: str) -> Iterator[FieldError]:
        if value is None and schema.get("nullable"):
            return
        wrong = _type_error(schema, value, path)
        if wrong is not None:
            yield wrong
            return
        for check in _CHECKS:
            error = check(schema, value, path)
            if error is not None:
                yield error
        if isinstance(value, dict):
            yield from self._object(schema, value, old, path)
        elif isinstance(value, list):
            yield from self._list(schema, value, path)
        for message in broken_rules(schema, value, *(() if old is _ABSENT else (old,))):
            yield FieldError(code="RuleBroken", path=path, message=message, value=value)

    def _object(
        self, schema: Schema, value: JSONObject, old: Any, path: str
    ) -> Iterator[FieldError]:
        properties = schema.get("properties", {})
        misspelt = self._misspelt(schema, value, path)
        for name in schema.get("required", ()):
            if name in misspelt.values():
                continue  # one cause, one fault
            if value.get(name) is None and not properties.get(name, {}).get("nullable"):
                yield FieldError(
                    code="MissingField",
                    path=_join(path, name),
                    message="is required",
                    remedy=properties.get(name, {}).get("description", ""),
                )
        for key, item in value.items():
            child = _child_schema(schema, key)
            if child is None:
                if key in misspelt:
                    yield _unknown_field(schema, key, misspelt[key], path)
                continue
            if item is None and key in properties:
                continue  # the API drops a null that is not allowed, so it is only absent
            before = old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
            where = _join(path, key) if key in properties else f"{path}[{key}]"
            yield from self.errors(child, item, before, where)

    def _misspelt(self, schema: Schema, value: JSONObject, path: str) -> dict[str, str | None]:
        """Fields that the schema does not know, each with the name probably meant.

        Where unknown fields are kept, only a known name in other letter case counts.
        """
        if not self._unknown_fields:
            return {}
        unknown = [key for key in value if _child_schema(schema, key) is None]
        known = schema.get("properties", {})
        if path == "metadata" and not known:
            return {}  # a custom kind's schema leaves metadata to the API
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            by_lower = {name.lower(): name for name in known}
            return {key: by_lower[key.lower()] for key in unknown if key.lower() in by_lower}
        return {key: suggestion(key, list(known)) for key in unknown}

    def _list(self, schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
        items = schema.get("items", {})
        for index, item in enumerate(value):
            yield from self.errors(items, item, _ABSENT, f"{path}[{index}]")
        yield from _duplicates(schema, value, path)


def _unknown_field(schema: Schema, key: str, meant: str | None, path: str) -> FieldError:
    names = ", ".join(sorted(schema.get("properties", ()))) or "none"
    return FieldError(
        code="UnknownField",
        path=_join(path, key),
        message="is not a field of this kind",
        remedy=f"did you mean {meant}?" if meant else f"the fields here are: {names}",
        value=key,
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    kind = schema.get("x-kubernetes-list-type")
    if kind not in ("map", "set"):
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    properties = schema.get("items", {}).get("properties", {})
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        if kind == "set":
            identity = repr(item)
        elif isinstance(item, dict):
            identity = repr([item.get(k, properties.get(k, {}).get("default")) for k in keys])
        else:
            continue
        first = seen.setdefault(identity, index)
        if first != index:
            what = f"the same {' and '.join(keys)} as" if keys else "the same as"
            yield FieldError(
                code="DuplicateItem",
                path=f"{path}[{index}]",
                message=f"has {what} item {first}",
                value=item,
            )


def _is_integer(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}


def _type_error(schema: Schema, value: Any, path: str) -> FieldError | None:
    wanted = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, str) or _is_integer(value):
            return None
        message = f"must be an integer or a string, not {describe(value)}"
    elif wanted is None or _TYPE_CHECKS[wanted](value):
        return None
    else:
        message = f"must be {_TYPE_NAMES[wanted]}, not {describe(value)}"
    remedy = ""
    if wanted == "string" and isinstance(value, bool | int | float):
        remedy = "put it in quotes"
    elif wanted == "array" and not isinstance(value, dict):
        remedy = "write it as a list, even with one item"
    return FieldError(code="WrongType", path=path, message=message, remedy=remedy, value=value)


def describe(value: Any) -> str:
    """Say in a few words what a value is: `the string "no"`, `a list`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{value if len(value) <= 40 else value[:37] + "..."}"'
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a list" if isinstance(value, list) else "a mapping"


def _enum_error(schema: Schema, value: Any, path: str) -> FieldError | None:
    allowed = schema.get("enum")
    if allowed is None or value in allowed:
        return None
    meant = suggestion(value, [str(v) for v in allowed]) if isinstance(value, str) else None
    return FieldError(
        code="NotAllowed",
        path=path,
        message=f"must be one of {', '.join(map(str, allowed))}, not {describe(value)}",
        remedy=f"did you mean {meant}?" if meant else "",
        value=value,
    )


def _range_error(schema: Schema, value: Any, path: str) -> FieldError | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = schema.get("minimum"), schema.get("maximum")
    bits = _INTEGER_BITS.get(schema.get("format", ""))
    if bits is not None:
        low = -(2 ** (bits - 1)) if low is None else low
        high = 2 ** (bits - 1) - 1 if high is None else high
    if (low is None or value >= low) and (high is None or value <= high):
        return None
    if high is None:
        wanted = f"{low} or more"
    elif low is None:
        wanted = f"{high} or less"
    else:
        wanted = f"between {low} and {high}"
    return FieldError(
        code="OutOfRange", path=path, message=f"must be {wanted}, not {value}", value=value
    )


def _length_error(schema: Schema, value: Any, path: str) -> FieldError | None:
    if isinstance(value, str):
        low, high, unit = schema.get("minLength"), schema.get("maxLength"), "character"
    elif isinstance(value, list):
        low, high, unit = schema.get("minItems"), schema.get("maxItems"), "item"
    else:
        return None
    if low is not None and len(value) < low:
        message = f"must have at least {low} {unit}{'' if low == 1 else 's'}"
    elif high is not None and len(value) > high:
        message = f"must have at most {high} {unit}{'' if high == 1 else 's'}, not {len(value)}"
    else:
        return None
    return FieldError(code="WrongLength", path=path, message=message, value=value)


def _format_error(schema: Schema, value: Any, path: str) -> FieldError | None:
    if not isinstance(value, str):
        return None
    if schema.get("format") == "date-time" and not _DATE_TIME.fullmatch(value):
        message = f"must be a time such as 2006-01-02T15:04:05Z, not {describe(value)}"
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        message = f"must match {schema['pattern']}, which {describe(value)} does not"
    else:
        return None
    return FieldError(code="WrongFormat", path=path, message=message, value=value)


_CHECKS = (_enum_error, _range_error, _length_error, _format_error)
