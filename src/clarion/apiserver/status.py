"""Refusals in the form every Kubernetes client reads: a `Status` with code, reason and causes.

The wording follows what kubectl users know from a cluster, because scripts match on it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from clarion.base.errors import ClarionError

Json = dict[str, Any]
"""A decoded JSON object."""


class Cause(msgspec.Struct, frozen=True):
    """One field that is wrong: where, what kind of wrong, and what would be right."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ResourceName(msgspec.Struct, frozen=True):
    """What a message calls a resource: `services`, or `bgppeers.metallb.io`."""

    group: str
    plural: str

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


class ApiError(ClarionError):
    """A request that is refused: HTTP code, Kubernetes reason, message and details."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.text = message
        self.details = details

    def to_status(self) -> Json:
        """The `Status` object that is sent to the client."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.text,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(resource: ResourceName, name: str, causes: Sequence[Cause] = ()) -> Json:
    details: Json = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    if causes:
        details["causes"] = _causes(causes)
    return details


def _causes(causes: Sequence[Cause]) -> list[Json]:
    return [
        {"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes
    ]


def bad_request(message: str) -> ApiError:
    """400: the request itself makes no sense."""
    return ApiError(400, "BadRequest", message)


def strict_decoding(
    kind: str, version: str, problems: Sequence[str], *, patching: bool
) -> ApiError:
    """400: fields that the schema does not know, under `fieldValidation=Strict`; 422 of a patch."""
    text = f"strict decoding error: {', '.join(problems)}"
    if patching:
        cause = Cause("patch", f"Invalid value: {text}")
        return invalid("", ResourceName("", ""), "", [cause])
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {text}')


def unauthorized() -> ApiError:
    """401: no bearer token, or a wrong one."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(
    resource: ResourceName, name: str, why: str, causes: Sequence[Cause] = ()
) -> ApiError:
    """403: understood, and not done."""
    subject = f'{resource} "{name}"' if name else str(resource)
    return ApiError(
        403, "Forbidden", f"{subject} is forbidden: {why}", _details(resource, name, causes)
    )


def not_found(resource: ResourceName, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', _details(resource, name))


def no_such_path() -> ApiError:
    """404: no such resource or path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(verb: str) -> ApiError:
    """405: this resource has no such verb."""
    return ApiError(
        405,
        "MethodNotAllowed",
        f"the server does not allow this method on the requested resource: {verb}",
        {},
    )


def not_acceptable(accepted: str) -> ApiError:
    """406: none of the media types asked for can be made."""
    return ApiError(
        406,
        "NotAcceptable",
        f"only the following media types are accepted: {accepted}",
    )


def already_exists(resource: ResourceName, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(
        409, "AlreadyExists", f'{resource} "{name}" already exists', _details(resource, name)
    )


def conflict(resource: ResourceName, name: str, why: str) -> ApiError:
    """409: the object is not in the state the client believes."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource} "{name}": {why}',
        _details(resource, name),
    )


def modified(resource: ResourceName, name: str) -> ApiError:
    """409: optimistic concurrency; the client's resourceVersion is not the current one."""
    why = "the object has been modified; please apply your changes to the latest version"
    return conflict(resource, name, f"{why} and try again")


def apply_conflict(causes: Sequence[Cause]) -> ApiError:
    """409: server-side apply would change fields that others manage; a cause says whose each is."""
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        by_owner: dict[str, list[str]] = {}
        for cause in causes:
            by_owner.setdefault(cause.message, []).append(cause.field)
        parts = []
        for owner, paths in by_owner.items():
            who = owner.replace("conflict with", "conflicts with", 1) if len(paths) > 1 else owner
            parts.append("\n- ".join([f"{who}:", *paths]))
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(parts)
    return ApiError(409, "Conflict", text, {"causes": _causes(causes)})


def expired(message: str) -> ApiError:
    """410: the version asked for has been compacted; list again."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413: the body is over the bound."""
    return ApiError(
        413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit} bytes"
    )


def unsupported_media(content_type: str, accepted: str) -> ApiError:
    """415: a body in a form that is not understood."""
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - {content_type}: "
        f"accepted media types include: {accepted}",
    )


def invalid(kind: str, resource: ResourceName, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: the object breaks its schema or the rules of its kind; all causes are listed."""
    texts = [str(cause) for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(ResourceName(resource.group, kind), name, causes)
    shown = f"{kind}.{resource.group}" if resource.group else kind
    return ApiError(422, "Invalid", f'{shown} "{name}" is invalid: {text}', details)


def invalid_options(kind: str, causes: Sequence[Cause]) -> ApiError:
    """422: parameters of the request that contradict one another or do not exist."""
    return invalid(kind, ResourceName("meta.k8s.io", ""), "", causes)


def too_many_requests(message: str, retry_after: int) -> ApiError:
    """429: a bound is reached for the moment."""
    return ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def internal(message: str) -> ApiError:
    """500: our fault."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> ApiError:
    """503: not now."""
    return ApiError(503, "ServiceUnavailable", message)


def version_not_reached(asked: int, current: int) -> ApiError:
    """504: the client has seen a version that this store has not."""
    message = f"Too large resource version: {asked}, current: {current}"
    return ApiError(
        504,
        "Timeout",
        f"Timeout: {message}",
        {
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
    )
