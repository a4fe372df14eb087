"""Reading requests: paths, parameters, bodies and the form in which the answer is wanted."""

import base64
import binascii
import enum
from collections.abc import Mapping
from typing import Literal, cast

import msgspec

from clarion.apiserver.registry import (
    DeleteOptions,
    FieldValidation,
    Propagation,
    Target,
    WriteOptions,
)
from clarion.apiserver.resources import find
from clarion.apiserver.selectors import FieldSelector, LabelSelector, Selection
from clarion.apiserver.status import (
    Cause,
    Json,
    bad_request,
    invalid_options,
    no_such_path,
    not_acceptable,
)
from clarion.apiserver.wire import encode
from clarion.base import limits

Query = Mapping[str, str]


def read_target(path: str) -> Target:
    """What a path below /api or /apis is about.

    Raises:
        ApiError: 404, nothing we have.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = find(group, rest[0])
    if resource is None or version not in resource.versions or len(rest) > 3:
        raise no_such_path()
    if namespace and not resource.namespaced:
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    known = ("status",) if resource.has_status else ()
    if resource.plural == "namespaces":
        known = (*known, "finalize")
    if subresource and subresource not in known:
        raise no_such_path()
    if name and resource.namespaced and not namespace:
        raise no_such_path()
    return Target(resource, resource.versions[version], namespace, name, subresource)


class Form(enum.Enum):
    """The shapes in which an object can be given."""

    OBJECT = "object"
    TABLE = "Table"
    FULL_TABLE = "Table of whole objects"
    BARE_TABLE = "Table without objects"
    PARTIAL = "PartialObjectMetadata"
    AGGREGATED = "APIGroupDiscoveryList"


_JSON_TYPES = ("application/json", "application/*", "*/*")


def read_form(header: str, query: Query) -> Form:
    """The form asked for by the Accept header, and what a table's rows shall hold by the query.

    Raises:
        ApiError: 406, none that can be made.
    """
    form = read_accept(header)
    # kubectl sorts a table by what its rows hold: with --sort-by it asks for the whole objects.
    if form is not Form.TABLE:
        return form
    rows = {"Object": Form.FULL_TABLE, "None": Form.BARE_TABLE}
    return rows.get(query.get("includeObject", ""), Form.TABLE)


def read_accept(header: str, *, tables: bool = True) -> Form:
    """The first form asked for that can be made.

    Raises:
        ApiError: 406, none.
    """
    if not header.strip():
        return Form.OBJECT
    for offer in header.split(","):
        media, *rest = [part.strip() for part in offer.split(";")]
        parameters = dict(part.partition("=")[::2] for part in rest)
        if media not in _JSON_TYPES:
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return Form.OBJECT
        if wanted == "Table" and tables and parameters.get("v") == "v1":
            return Form.TABLE
        if wanted.startswith("PartialObjectMetadata") and parameters.get("v") == "v1":
            return Form.PARTIAL
        if wanted == "APIGroupDiscoveryList" and parameters.get("v") == "v2":
            return Form.AGGREGATED
    raise not_acceptable("application/json")


def read_flag(query: Query, name: str) -> bool:
    """A parameter that is true or false."""
    return query.get(name, "").lower() in ("1", "true")


def read_number(query: Query, name: str) -> int | None:
    """A parameter that is a whole number of at least zero; None if it is not given.

    Raises:
        ApiError: 400, something else.
    """
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise bad_request(f"invalid {name}: {text!r} is not a number")
    return int(text)


def read_version(query: Query) -> int | None:
    """The resourceVersion asked for; None for any."""
    return read_number(query, "resourceVersion") or None


def read_selection(target: Target, query: Query) -> Selection:
    """Both selectors.

    Raises:
        ApiError: 400, not understood.
    """
    return Selection(
        LabelSelector(query.get("labelSelector", "")),
        FieldSelector(query.get("fieldSelector", ""), target.resource),
    )


def _check_dry_run(values: list[str]) -> list[Cause]:
    if not set(values) - {"", "All"}:
        return []
    return [_unsupported("dryRun", encode(values).decode(), "All")]


def _unsupported(field: str, shown: str, *supported: str) -> Cause:
    choice = ", ".join(f'"{one}"' for one in supported)
    text = f"Unsupported value: {shown}: supported values: {choice}"
    return Cause(field, text, "FieldValueNotSupported")


def _forbidden(field: str, why: str) -> Cause:
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


Writing = Literal["Create", "Update", "Patch", "Apply"]


def read_write_options(query: Query, agent: str, writing: Writing) -> WriteOptions:
    """Parameters of a write.

    Raises:
        ApiError: 422, not understood.
    """
    dry_run = query.get("dryRun", "")
    causes = _check_dry_run([dry_run])
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        shown = f'"{validation}"'
        causes.append(_unsupported("fieldValidation", shown, "", "Ignore", "Strict", "Warn"))
    given = query.get("fieldManager", "")
    if len(given) > 128:
        text = "Too long: may not be more than 128 bytes"
        causes.append(Cause("fieldManager", text, "FieldValueTooLong"))
    elif not given.isprintable():
        causes.append(Cause("fieldManager", "Invalid value: only printable characters may be used"))
    if writing == "Apply" and not given:
        text = "Required value: is required for apply patch"
        causes.append(Cause("fieldManager", text, "FieldValueRequired"))
    if writing != "Apply" and "force" in query:
        causes.append(_forbidden("force", "may not be specified for non-apply patch"))
    if causes:
        raise invalid_options(f"{'Patch' if writing == 'Apply' else writing}Options", causes)
    return WriteOptions(
        dry_run=dry_run == "All",
        validation=cast(FieldValidation, validation),
        manager=given or agent.partition("/")[0][:128] or "unknown",
        patching=writing == "Patch",
    )


def check_list_options(query: Query) -> None:
    """Parameters of lists and watches that contradict one another.

    Raises:
        ApiError: 400 or 422.
    """
    read_number(query, "timeoutSeconds")
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    initial, watching = "sendInitialEvents" in query, read_flag(query, "watch")
    causes = []
    if initial and not watching:
        causes.append(_forbidden("sendInitialEvents", "it is for watches only"))
    elif initial and match != "NotOlderThan":
        text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        causes.append(_forbidden("resourceVersionMatch", text))
    elif match and watching and not initial:
        causes.append(_forbidden("resourceVersionMatch", "it is forbidden for watch"))
    elif match and not watching and not version:
        text = "it is forbidden unless resourceVersion is provided"
        causes.append(_forbidden("resourceVersionMatch", text))
    if match not in ("", "Exact", "NotOlderThan"):
        shown = f'"{match}"'
        causes.append(_unsupported("resourceVersionMatch", shown, "Exact", "NotOlderThan", ""))
    if match == "Exact" and version == "0":
        causes.append(_forbidden("resourceVersionMatch", "Exact needs a resourceVersion but 0"))
    if causes:
        raise invalid_options("ListOptions", causes)


class _Preconditions(msgspec.Struct, frozen=True, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteBody(msgspec.Struct, frozen=True, rename="camel"):
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    preconditions: _Preconditions | None = None
    dry_run: list[str] | None = None


def read_delete_options(query: Query, body: Json) -> DeleteOptions:
    """Options from the body of a deletion, or from its parameters.

    Raises:
        ApiError: 400 or 422, not understood.
    """
    try:
        given = msgspec.convert(body, _DeleteBody)
    except msgspec.ValidationError as error:
        raise bad_request(f"the DeleteOptions cannot be read: {error}") from None
    policy = given.propagation_policy or query.get("propagationPolicy", "")
    orphan = given.orphan_dependents
    dry_run = given.dry_run or [query.get("dryRun", "")]
    causes = _check_dry_run(dry_run)
    if policy not in ("", "Background", "Foreground", "Orphan"):
        known = ("Foreground", "Background", "Orphan", "nil")
        causes.append(_unsupported("propagationPolicy", f'"{policy}"', *known))
    if policy and orphan is not None:
        text = f'Invalid value: "{policy}": orphanDependents says the same; only one may be set'
        causes.append(Cause("propagationPolicy", text))
    if causes:
        raise invalid_options("DeleteOptions", causes)
    if not policy and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    conditions = given.preconditions or _Preconditions()
    return DeleteOptions(
        uid=conditions.uid or "",
        resource_version=conditions.resource_version or "",
        propagation=cast(Propagation, policy or "Background"),
        dry_run="All" in dry_run,
    )


class Position(msgspec.Struct, frozen=True, rename={"revision": "rv", "namespace": "ns"}):
    """Where a list goes on: after this object, at this revision."""

    revision: int
    namespace: str
    name: str

    def token(self) -> str:
        """The text that a client sends back as `continue`."""
        return base64.urlsafe_b64encode(encode(self)).decode().rstrip("=")

    @classmethod
    def read(cls, token: str) -> "Position":
        """Read a token.

        Raises:
            ApiError: 400, not one of ours.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            return msgspec.json.decode(raw, type=cls)
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise bad_request("continue key is not valid") from None


def read_limit(query: Query) -> int | None:
    """How many objects a page may hold; None for all, which a negative number means too."""
    text = query.get("limit", "")
    limit = read_number({"limit": text.removeprefix("-")}, "limit")
    if text.startswith("-"):
        return None
    return min(limit, limits.API_PAGE_OBJECTS) if limit else None
