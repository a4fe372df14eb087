"""Objects against their schemas: defaults, unknown fields, faults; in the words of Kubernetes."""

from functools import cache, partial
from typing import Any

import msgspec

from clarion.apiserver import coreschema
from clarion.apiserver.status import Cause, Json
from clarion.apiserver.wire import encode
from clarion.model import structural
from clarion.model.kinds import Kind
from clarion.model.schema import openapi_schema

Schema = dict[str, Any]

_REASONS = {
    "WrongType": "FieldValueTypeInvalid",
    "MissingField": "FieldValueRequired",
    "NotAllowed": "FieldValueNotSupported",
    "DuplicateItem": "FieldValueDuplicate",
    "WrongLength": "FieldValueInvalid",
}


@cache
def schema_of(kind: Kind) -> Schema:
    """The schema that objects of a kind and version must fit, metadata included."""
    schema = dict(openapi_schema(kind) if kind.custom else coreschema.schema_of(kind.kind))
    schema["properties"] = schema["properties"] | {"metadata": coreschema.OBJECT_META}
    return schema


class Findings(msgspec.Struct, frozen=True):
    """What a check found: the completed object, fields that were removed, and faults."""

    body: Json
    unknown: list[str]
    causes: list[Cause]


def check(kind: Kind, new: Json, old: Json | None) -> Findings:
    """Default, prune and validate; `old` serves rules about changes."""
    schema = schema_of(kind)
    judge = partial(structural.validate, schema)
    if old is not None:
        judge = partial(judge, old=old)
    body = structural.apply_defaults(schema, new)
    errors = judge(body, unknown_fields=True)
    unknown = [error.path for error in errors if error.code == "UnknownField"]
    if unknown:
        body = structural.prune(schema, body)
        errors = judge(body)
    return Findings(body, unknown, [_cause(error) for error in errors])


def check_part(kind: Kind, part: Json) -> Findings:
    """A part of an object, as server-side apply sends it: without nulls, and its faults.

    What is missing is no fault: the rest of the object may have it.
    """
    bare = _without_nulls(part)
    errors = structural.validate(schema_of(kind), bare, unknown_fields=True)
    unknown = [error.path for error in errors if error.code == "UnknownField"]
    no_faults = ("MissingField", "UnknownField")
    return Findings(bare, unknown, [_cause(one) for one in errors if one.code not in no_faults])


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value


def _cause(error: structural.FieldError) -> Cause:
    reason = _REASONS.get(error.code, "FieldValueInvalid")
    if error.code == "MissingField":
        return Cause(error.path, "Required value", reason)
    what = {
        "NotAllowed": "Unsupported value",
        "DuplicateItem": "Duplicate value",
    }.get(error.code, "Invalid value")
    remedy = f" ({error.remedy})" if error.remedy else ""
    shown = encode(error.value).decode()
    return Cause(error.path, f"{what}: {shown}: {error.message}{remedy}", reason)
