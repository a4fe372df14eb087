"""The table of resources: one row per (group, plural), with its versions and peculiarities.

The rows of `clarion.model.kinds` say what exists; this adds what only an API server must know.
"""

from functools import cache
from typing import Final

import msgspec

from clarion.apiserver.status import Cause, ResourceName
from clarion.model import kinds
from clarion.model.kinds import Kind

STANDARD_VERBS: Final = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)

# Resources whose PUT creates what is not there (`AllowCreateOnUpdate` in Kubernetes).
_CREATED_BY_UPDATE = {"services", "leases", "events"}

# Kinds of Kubernetes whose spec is counted by metadata.generation.
_COUNTED = {"EndpointSlice", "CustomResourceDefinition", "Pod"}


class Resource(msgspec.Struct, frozen=True, eq=False):
    """One resource in all its served versions."""

    group: str
    plural: str
    stored: Kind
    versions: dict[str, Kind]
    categories: tuple[str, ...]
    preferred: str

    @property
    def id(self) -> str:
        """Its name in the store: `services`, `bgppeers.metallb.io`."""
        return str(self.name)

    @property
    def name(self) -> ResourceName:
        """Its name in messages."""
        return ResourceName(self.group, self.plural)

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return self.stored.kind

    @property
    def namespaced(self) -> bool:
        """Whether objects live in namespaces."""
        return self.stored.namespaced

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition declares it."""
        return self.stored.custom

    @property
    def has_status(self) -> bool:
        """Whether status is written through a subresource of its own."""
        return self.stored.status_subresource

    @property
    def updated_by_version_only(self) -> bool:
        """Whether a client must say which version of an object it replaces."""
        return self.custom or self.plural in ("leases", "customresourcedefinitions")

    @property
    def counts_generation(self) -> bool:
        """Whether changes of the spec are counted in metadata.generation."""
        return self.custom or self.kind in _COUNTED

    @property
    def created_by_update(self) -> bool:
        """Whether a PUT creates an object that does not exist."""
        return self.plural in _CREATED_BY_UPDATE


@cache
def resources() -> dict[tuple[str, str], Resource]:
    """All resources, by (group, plural)."""
    table: dict[tuple[str, str], Resource] = {}
    for row in kinds.KINDS:
        place = (row.group, row.plural)
        if place in table:
            continue
        versions = kinds.versions_of(*place)
        table[place] = Resource(
            group=row.group,
            plural=row.plural,
            stored=versions[0],
            versions={kind.version: kind for kind in versions},
            categories=_categories(row),
            preferred=versions[0].version,
        )
    return table


def _categories(kind: Kind) -> tuple[str, ...]:
    if kind.plural in ("services", "pods"):
        return ("all",)
    if kind.plural == "customresourcedefinitions":
        return ("api-extensions",)
    return ()


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Versions of each group, the preferred one first."""
    found: dict[str, set[str]] = {}
    for row in kinds.KINDS:
        found.setdefault(row.group, set()).add(row.version)
    return {group: tuple(sorted(versions, key=_version_order)) for group, versions in found.items()}


def _version_order(version: str) -> tuple[int, str]:
    """`v1` before `v1beta2` before `v1beta1`, as Kubernetes orders versions."""
    stable = 0 if version.removeprefix("v").isdigit() else 1
    return stable, "".join(chr(255 - ord(char)) for char in version)


def find(group: str, plural: str) -> Resource | None:
    """The resource under a path; None if there is none."""
    return resources().get((group, plural))


def of_kind(api_version: str, kind: str) -> Resource | None:
    """The resource of an object's apiVersion and kind; None if unknown."""
    row = kinds.find_kind(api_version, kind)
    return find(row.group, row.plural) if row is not None else None


def core(plural: str) -> Resource:
    """A resource that is always there, by its plural."""
    for resource in resources().values():
        if resource.plural == plural:
            return resource
    raise KeyError(plural)


def missing(field: str) -> Cause:
    """The cause for a field that must be given."""
    return Cause(field, "Required value", "FieldValueRequired")
