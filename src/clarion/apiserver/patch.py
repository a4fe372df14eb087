"""The patch formats: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch."""

from collections.abc import Callable
from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from clarion.apiserver.status import (
    ApiError,
    Json,
    bad_request,
    unsupported_media,
)
from clarion.apiserver.strategic import merge_strategic
from clarion.apiserver.validate import schema_of
from clarion.apiserver.wire import decode, decode_object
from clarion.base import limits
from clarion.model import yamltext
from clarion.model.kinds import Kind

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

ALL_FORMATS = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY)


def formats_of(kind: Kind) -> tuple[str, ...]:
    """The patch formats of a kind; custom resources have no strategic merge, as in Kubernetes."""
    if kind.custom:
        return tuple(one for one in ALL_FORMATS if one != STRATEGIC_MERGE_PATCH)
    return ALL_FORMATS


def read_patch(content_type: str, raw: bytes, kind: Kind) -> Callable[[Json], Json]:
    """The change that a patch makes, as a function of the current object.

    Raises:
        ApiError: 400 not a patch, or 415 a format that this kind has not.
    """
    if content_type not in formats_of(kind):
        raise unsupported_media(content_type, ", ".join(formats_of(kind)))
    if content_type == JSON_PATCH:
        return _read_json_patch(raw)
    patch = decode_object(raw)
    if content_type == MERGE_PATCH:
        return lambda current: _object(merge(current, patch))
    schema = schema_of(kind)
    return lambda current: _object(merge_strategic(schema, current, patch))


def read_configuration(raw: bytes) -> Json:
    """An object in YAML or JSON, as server-side apply sends it.

    Raises:
        ApiError: 400, not exactly one readable object.
    """
    try:
        documents = list(yamltext.read_documents(raw.decode()))
    except UnicodeDecodeError:
        raise bad_request("the body of the request is not UTF-8") from None
    faults = [fault for document in documents for fault in document.faults]
    if faults:
        first = faults[0]
        raise bad_request(
            f"error decoding YAML: line {first.line}, column {first.column}: {first.message}"
        )
    if len(documents) != 1 or documents[0].node is None:
        raise bad_request("the body of the request must be one object")
    return _object(documents[0].node.plain())


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise bad_request("the result must be an object")
    return value


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386 §2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def _read_json_patch(raw: bytes) -> Callable[[Json], Json]:
    try:
        operations = decode(raw)
        if not isinstance(operations, list):
            raise bad_request("a JSON patch is a list of operations")
        if len(operations) > limits.API_PATCH_OPERATIONS:
            raise ApiError(
                413,
                "RequestEntityTooLarge",
                f"The allowed maximum operations in a JSON patch is {limits.API_PATCH_OPERATIONS}, "
                f"got {len(operations)}",
            )
        patch = jsonpatch.JsonPatch(operations)
    except jsonpatch.JsonPatchException as error:
        raise _cannot_apply(str(error)) from None
    except (msgspec.DecodeError, TypeError) as error:
        raise bad_request(f"error decoding patch: {error}") from None

    def change(current: Json) -> Json:
        try:
            return _object(patch.apply(current))
        except (
            jsonpatch.JsonPatchException,
            jsonpointer.JsonPointerException,
            TypeError,
        ) as error:
            raise _cannot_apply(str(error)) from None

    return change


def _cannot_apply(why: str) -> ApiError:
    message = f"the server rejected our request due to an error in our request: {why}"
    return ApiError(422, "Invalid", message, {})
