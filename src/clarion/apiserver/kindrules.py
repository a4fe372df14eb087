"""What single kinds demand beyond their schema, on the way into the store."""

import base64
from typing import Any

from clarion.apiserver import services
from clarion.apiserver.allocations import Allocations
from clarion.apiserver.resources import Resource
from clarion.apiserver.status import Cause, Json, forbidden
from clarion.apiserver.store import Key
from clarion.model import kinds
from clarion.model.schema import custom_resource_definitions

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

_FORBIDDEN = "FieldValueForbidden"


class KindRules:
    """Completes and checks objects by kind; keeps nothing but a reference to the allocations."""

    def __init__(self, allocations: Allocations) -> None:
        self._allocations = allocations
        self._definitions = {row["metadata"]["name"]: row for row in custom_resource_definitions()}

    def definitions(self) -> list[Json]:
        """The CustomResourceDefinitions of the kinds that are built in."""
        return list(self._definitions.values())

    def prepare(
        self, resource: Resource, key: Key, new: Json, old: Json | None
    ) -> tuple[list[Cause], list[str]]:
        """Complete `new` in place; give back faults and warnings."""
        match resource.plural:
            case "services":
                new.setdefault("status", {}).setdefault("loadBalancer", {})
                return services.prepare(self._allocations, key, new, old), []
            case "namespaces":
                if old is None:
                    new["spec"] = {"finalizers": ["kubernetes"]}
                    new["status"] = {"phase": "Active"}
                new["metadata"].setdefault("labels", {})[NAMESPACE_NAME_LABEL] = key.name
            case "secrets":
                return _prepare_secret(new, old), []
            case "configmaps":
                return _unchanged_if_immutable(new, old, ("data", "binaryData")), []
            case "endpointslices":
                return _immutable(new, old, "addressType"), []
            case "pods":
                new.setdefault("status", {}).setdefault("phase", "Pending")
            case "customresourcedefinitions":
                return [], self._prepare_definition(resource, key, new)
        return [], []

    def _prepare_definition(self, resource: Resource, key: Key, new: Json) -> list[str]:
        """Definitions are listed and may be applied, but what is served is built in."""
        row = self._definitions.get(key.name)
        if row is None:
            raise forbidden(
                resource.name,
                key.name,
                "this API serves a fixed set of kinds; use a Kubernetes cluster for others",
            )
        given, own = new.get("spec", {}), row["spec"]
        new["spec"] = own
        versions = [version["name"] for version in own["versions"]]
        since = new["metadata"].get("creationTimestamp")
        new["status"] = {
            "acceptedNames": own["names"],
            "conditions": [
                _condition("NamesAccepted", "NoConflicts", "no conflicts found", since),
                _condition("Established", "InitialNamesAccepted", "served by clarion", since),
            ],
            "storedVersions": [
                row.version for row in kinds.versions_of(own["group"], own["names"]["plural"])
            ][:1],
        }
        served = [version.get("name") for version in given.get("versions", [])]
        if set(served) - set(versions):
            return [f"{key.name}: only the versions {', '.join(versions)} are served"]
        if _schemas(given) != _schemas(own):
            return [f"{key.name}: the schema is built into clarion; the one given is not used"]
        return []


def _condition(kind: str, reason: str, message: str, since: Any) -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


def _schemas(spec: Json) -> dict[str, Any]:
    return {version.get("name"): version.get("schema") for version in spec.get("versions", [])}


def _prepare_secret(new: Json, old: Json | None) -> list[Cause]:
    for name, text in new.pop("stringData", {}).items():
        new.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
    causes = [
        Cause(f"data[{name}]", "Invalid value: not base64")
        for name, text in new.get("data", {}).items()
        if not _is_base64(text)
    ]
    causes += _immutable(new, old, "type")
    return causes + _unchanged_if_immutable(new, old, ("data",))


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _immutable(new: Json, old: Json | None, field: str) -> list[Cause]:
    if old is None or new.get(field) == old.get(field):
        return []
    return [Cause(field, f'Invalid value: "{new.get(field)}": field is immutable')]


def _unchanged_if_immutable(new: Json, old: Json | None, fields: tuple[str, ...]) -> list[Cause]:
    if old is None or not old.get("immutable"):
        return []
    text = "Forbidden: field is immutable when `immutable` is set"
    causes = [
        Cause(field, text, _FORBIDDEN) for field in fields if new.get(field) != old.get(field)
    ]
    if not new.get("immutable"):
        causes.append(Cause("immutable", text, _FORBIDDEN))
    return causes
