"""Rules for the metadata of every object: names, labels, annotations, owners."""

import re
from datetime import UTC, datetime
from typing import Any

from clarion.apiserver.resources import Resource, missing
from clarion.apiserver.status import Cause, Json, bad_request
from clarion.base import limits

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(rf"{_LABEL}\Z")
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_KEY_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?\Z")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character"
)

GENERATED_LENGTH = 5
_GENERATED_BASE_LENGTH = 58

_OWN_FINALIZERS = ("kubernetes", "foregroundDeletion", "orphan")

# Set by the server; what a client sends of them is ignored.
_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def timestamp(moment: datetime) -> str:
    """A moment as `metav1.Time` is written: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def metadata_of(body: Json) -> Json:
    """The metadata of an object from a client, made if it is missing.

    Raises:
        ApiError: 400, it is not an object.
    """
    meta = body.setdefault("metadata", {})
    if meta is None:
        meta = body["metadata"] = {}
    if not isinstance(meta, dict):
        raise bad_request("metadata must be an object")
    return meta


def strip_server_fields(meta: Json) -> None:
    """Remove what a client cannot set at creation."""
    for field in _SERVER_FIELDS:
        meta.pop(field, None)


def keep_server_fields(meta: Json, old: Json) -> None:
    """Take what the server owns from the stored object."""
    for field in (*_SERVER_FIELDS, "namespace", "generateName"):
        if field in old:
            meta[field] = old[field]
        else:
            meta.pop(field, None)


def tidy(meta: Json) -> None:
    """Leave out empty maps and lists, as Kubernetes does when it writes."""
    for field in ("labels", "annotations", "ownerReferences", "finalizers", "managedFields"):
        if field in meta and not meta[field]:
            del meta[field]


def check(resource: Resource, meta: Json) -> list[Cause]:
    """Everything that is wrong with the metadata; its types have been checked."""
    causes = []
    if base := meta.get("generateName", ""):
        # What is generated follows it, so it may end in what a name may not.
        causes += _check_name(resource, "metadata.generateName", base.rstrip("-.") + "a", base)
    causes += _check_name(resource, "metadata.name", name := meta.get("name", ""), name)
    causes += check_labels("metadata.labels", meta.get("labels", {}))
    annotations = meta.get("annotations", {})
    for key in annotations:
        causes += check_key("metadata.annotations", key.lower())
    size = sum(len(key) + len(value) for key, value in annotations.items())
    if size > limits.API_ANNOTATIONS_BYTES:
        text = f"Too long: may not be more than {limits.API_ANNOTATIONS_BYTES} bytes"
        causes.append(Cause("metadata.annotations", text, "FieldValueTooLong"))
    causes += _check_owners(meta.get("ownerReferences", []))
    for place, finalizer in enumerate(meta.get("finalizers", [])):
        causes += check_key("metadata.finalizers", finalizer)
        if "/" not in finalizer and finalizer not in _OWN_FINALIZERS and not resource.custom:
            text = f'Invalid value: "{finalizer}": a domain must stand before it'
            causes.append(Cause(f"metadata.finalizers[{place}]", text))
    return causes


def _check_name(resource: Resource, field: str, name: str, shown: str) -> list[Cause]:
    if not name:
        return [missing(field)]
    if resource.plural in ("services", "namespaces"):
        rule, text, length = _DNS_LABEL, _LABEL_TEXT, 63
    else:
        rule, text, length = _DNS_SUBDOMAIN, _SUBDOMAIN_TEXT, 253
    causes = []
    if not rule.match(name):
        causes.append(Cause(field, f'Invalid value: "{shown}": {text}'))
    if len(name) > length:
        text = f'Invalid value: "{shown}": must be no more than {length} characters'
        causes.append(Cause(field, text))
    return causes


def warn(meta: Json, old: Json) -> list[str]:
    """What may collide with others one day, said of what is new: finalizers without a domain."""
    known = (*_OWN_FINALIZERS, *old.get("finalizers", []))
    return [
        f'metadata.finalizers: "{one}": a domain before it would keep it apart from others'
        for one in meta.get("finalizers", [])
        if "/" not in one and one not in known
    ]


def is_dns_subdomain(text: str) -> bool:
    """True for a name of RFC 1123 labels with dots between them."""
    return len(text) <= 253 and _DNS_SUBDOMAIN.match(text) is not None


def check_labels(field: str, labels: dict[str, str]) -> list[Cause]:
    """Everything that is wrong with labels, or with a selector that names some."""
    causes = []
    for key, value in labels.items():
        causes += check_key(field, key)
        if len(value) > 63 or not _VALUE.match(value):
            text = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of '
                "at most 63 alphanumeric characters, '-', '_' or '.', and must start and end with "
                "an alphanumeric character"
            )
            causes.append(Cause(field, text))
    return causes


def check_key(field: str, key: str) -> list[Cause]:
    """What is wrong with a label key or another qualified name."""
    prefix, slash, name = key.rpartition("/")
    wrong = len(name) > 63 or not _KEY_NAME.match(name)
    if slash:
        wrong = wrong or len(prefix) > 253 or not _DNS_SUBDOMAIN.match(prefix)
    if not wrong:
        return []
    text = (
        f'Invalid value: "{key}": a qualified name must consist of alphanumeric characters, '
        "'-', '_' or '.', at most 63, with an optional DNS subdomain prefix and '/'"
    )
    return [Cause(field, text)]


def _check_owners(owners: list[Any]) -> list[Cause]:
    causes = []
    if len(owners) > limits.API_OWNERS_PER_OBJECT:
        text = f"Too many: {len(owners)}: must have at most {limits.API_OWNERS_PER_OBJECT} items"
        causes.append(Cause("metadata.ownerReferences", text, "FieldValueTooMany"))
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        text = "Only one reference can have Controller set to true"
        causes.append(Cause("metadata.ownerReferences", f"Invalid value: {text}"))
    for place, owner in enumerate(owners):
        causes += [
            missing(f"metadata.ownerReferences[{place}].{field}")
            for field in ("apiVersion", "kind", "name", "uid")
            if not owner.get(field)
        ]
    return causes
