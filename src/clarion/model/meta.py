"""What every Kubernetes object has: the struct base, metadata, selectors, conditions, lists.

All structs are frozen and untracked by the garbage collector: decoded trees hold no cycles, and a
full collection over ten thousand services would otherwise pause the process that decides.
"""

from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

# Words that Kubernetes writes in capitals when they are not the first of a field name.
_CAPITALS = {
    "asn": "ASN",
    "cidr": "CIDR",
    "cidrs": "CIDRs",
    "id": "ID",
    "ip": "IP",
    "ips": "IPs",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "mp": "MP",
    "uuid": "UUID",
}

METALLB_NAMESPACE, OWN_NAMESPACE = "metallb-system", "clarion-system"
CONFIGURATION_NAMESPACES = (METALLB_NAMESPACE, OWN_NAMESPACE)
"""Where the configuration lives unless a flag says otherwise: the first of these that exists."""


def kube_name(name: str) -> str:
    """Give the Kubernetes spelling of a Python field name: `my_asn` is `myASN`."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(word) or word.capitalize() for word in rest)


class Model(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=kube_name, gc=False
):
    """Base of every struct here: frozen, spelled as Kubernetes spells, defaults left out."""


class ObjectKey(NamedTuple):
    """Identity of an object within its kind; the namespace of a cluster-wide object is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Write the key as users write it: `namespace/name`, or the bare name."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def always(value: str) -> str:
    """Give a field default that is written even though it is the default (apiVersion, kind)."""
    default: str = msgspec.field(default_factory=partial(str, value))
    return default


class OwnerReference(Model, frozen=True, kw_only=True, gc=False):
    """The object whose deletion deletes this one."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model, frozen=True, kw_only=True, gc=False):
    """Identity, labels and bookkeeping of one object."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class KubeObject(Model, frozen=True, kw_only=True, gc=False):
    """Base of every kind; subclasses fix `api_version` and `kind` and add `spec` and `status`."""

    api_version: str = always("")
    kind: str = always("")
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.metadata.namespace, self.metadata.name)

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the object, empty for cluster-wide kinds."""
        return self.metadata.namespace


class LabelSelectorRequirement(Model, frozen=True, kw_only=True, gc=False):
    """One expression of a selector: key, operator (In, NotIn, Exists, DoesNotExist), values."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Model, frozen=True, kw_only=True, gc=False):
    """Labels that must match; all parts must hold, and an empty selector matches everything."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class Condition(Model, frozen=True, kw_only=True, gc=False):
    """One observed fact about an object, as `metav1.Condition`."""

    type: str = ""
    status: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class ObjectReference(Model, frozen=True, kw_only=True, gc=False):
    """A pointer to another object."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class ListMeta(Model, frozen=True, kw_only=True, gc=False):
    """Version of a list, and the token with which its next page is asked."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


T = TypeVar("T")


class KubeList(Model, Generic[T], frozen=True, kw_only=True, gc=False):
    """A page of objects: `KubeList[Service]`."""

    api_version: str = always("v1")
    kind: str = always("List")
    metadata: ListMeta = ListMeta()
    items: tuple[T, ...] = ()


class StatusCause(Model, frozen=True, kw_only=True, gc=False):
    """One of several causes of a refusal."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Model, frozen=True, kw_only=True, gc=False):
    """What a refusal is about."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class Status(Model, frozen=True, kw_only=True, gc=False):
    """The API server's answer when it has no object to give, `metav1.Status`."""

    api_version: str = always("v1")
    kind: str = always("Status")
    metadata: ListMeta = ListMeta()
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


class WatchEvent(Model, frozen=True, kw_only=True, gc=False):
    """One line of a watch; the object stays bytes until its kind is known."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"null")


JSONObject = dict[str, Any]
