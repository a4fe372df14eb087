"""Label and field selectors of list, watch and deletecollection requests."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from clarion.apiserver.resources import Resource
from clarion.apiserver.status import bad_request
from clarion.apiserver.store import Entry
from clarion.apiserver.wire import decode

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_SET = re.compile(rf"({_NAME})\s+(in|notin)\s*\(([^()]*)\)\Z")
_EQUALS = re.compile(rf"({_NAME})\s*(==|=|!=)\s*({_VALUE})\Z")
_EXISTS = re.compile(rf"(!?)\s*({_NAME})\Z")
_COMPARE = re.compile(rf"({_NAME})\s*([<>])\s*(-?\d+)\Z")
_VALUE_ONLY = re.compile(rf"{_VALUE}\Z")

Labels = Mapping[str, str]
_Test = Callable[[Labels], bool]


class LabelSelector:
    """The query form: `app=web,tier in (a,b),!old`."""

    def __init__(self, text: str) -> None:
        self._tests = [_label_test(part) for part in _split(text)]

    def __bool__(self) -> bool:
        return bool(self._tests)

    def matches(self, labels: Labels) -> bool:
        """True if every part holds."""
        return all(test(labels) for test in self._tests)


def _split(text: str) -> list[str]:
    """Cut at the commas that are outside parentheses."""
    parts, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _label_test(part: str) -> _Test:
    if match := _SET.match(part):
        return _set_test(match[1], match[2], match[3], part)
    if match := _EQUALS.match(part):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(part):
        present, key = not match[1], match[2]
        return lambda labels: (key in labels) is present
    if match := _COMPARE.match(part):
        key, operator, bound = match[1], match[2], int(match[3])
        return lambda labels: _compares(labels.get(key), operator, bound)
    raise bad_request(f'unable to parse requirement: found "{part}" in the label selector')


def _set_test(key: str, operator: str, listed: str, part: str) -> _Test:
    values = frozenset(value.strip() for value in listed.split(","))
    for value in values:
        if not _VALUE_ONLY.match(value):
            raise bad_request(f'unable to parse requirement: "{value}" in "{part}" is not a value')
    if operator == "in":
        return lambda labels: labels.get(key, None) in values
    return lambda labels: key not in labels or labels[key] not in values


def _compares(value: str | None, operator: str, bound: int) -> bool:
    if value is None or not re.fullmatch(r"-?\d+", value):
        return False
    return int(value) > bound if operator == ">" else int(value) < bound


# Fields by which Kubernetes lets a client select, beyond name and namespace.
_FIELDS: dict[str, tuple[str, ...]] = {
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
}


class FieldSelector:
    """The query form: `metadata.name=web,type!=Normal`.

    `name` and `namespace` are set when one exact object or namespace is asked for, so that lists
    and watches need not look at the others.
    """

    def __init__(self, text: str, resource: Resource) -> None:
        self.name: str | None = None
        self.namespace: str | None = None
        self._tests: list[tuple[str, bool, str]] = []
        for part in _split(text):
            match = re.match(r"([^=!]+?)(==|=|!=)(.*)\Z", part)
            if match is None:
                raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
            self._add(match[1], match[2] != "!=", match[3], resource)

    def _add(self, field: str, equal: bool, value: str, resource: Resource) -> None:
        known = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource.plural, ()))
        if field not in known:
            raise bad_request(
                f'field label not supported: {field} (for "{resource.plural}": {", ".join(known)})'
            )
        if field == "metadata.name" and equal:
            self.name = value
        elif field == "metadata.namespace" and equal:
            self.namespace = value
        self._tests.append((field, equal, value))

    def __bool__(self) -> bool:
        return bool(self._tests)

    def matches(self, entry: Entry) -> bool:
        """True if every part holds."""
        body: Any = None
        for field, equal, value in self._tests:
            if field == "metadata.name":
                found = entry.key.name
            elif field == "metadata.namespace":
                found = entry.key.namespace
            else:
                body = decode(entry.body) if body is None else body
                found = _field_text(body, field)
            if (found == value) is not equal:
                return False
        return True


def _field_text(body: Any, field: str) -> str:
    if field == "source":
        return str(body.get("source", {}).get("component") or body.get("reportingComponent", ""))
    value = body
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if field in ("spec.unschedulable", "spec.hostNetwork"):
        return "true" if value is True else "false"
    return "" if value is None else str(value)


class Selection(msgspec.Struct, frozen=True):
    """What a list or watch asks for: both selectors."""

    labels: LabelSelector
    fields: FieldSelector

    def __bool__(self) -> bool:
        return bool(self.labels) or bool(self.fields)

    def matches(self, entry: Entry) -> bool:
        """True if the object is asked for."""
        return self.labels.matches(entry.meta.labels) and (
            not self.fields or self.fields.matches(entry)
        )


@cache
def everything(resource: Resource) -> Selection:
    """The selection that excludes nothing."""
    return Selection(LabelSelector(""), FieldSelector("", resource))
