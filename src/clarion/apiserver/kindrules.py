"""What single kinds demand beyond their schema, on the way into the store."""

import base64
import re
from ipaddress import ip_address
from typing import Any

from clarion.apiserver import services
from clarion.apiserver.allocations import Allocations
from clarion.apiserver.resources import Resource, missing
from clarion.apiserver.status import Cause, Json, bad_request, forbidden
from clarion.apiserver.store import Key
from clarion.model import kinds
from clarion.model.schema import custom_resource_definitions

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"

_FORBIDDEN = "FieldValueForbidden"
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[-+]\d\d:\d\d)\Z")
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")


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
                return services.prepare(self._allocations, key, new, old), services.warn(new, old)
            case "namespaces":
                if old is None:
                    new["spec"] = {"finalizers": ["kubernetes"]}
                    new["status"] = {"phase": "Active"}
                new["metadata"].setdefault("labels", {})[NAMESPACE_NAME_LABEL] = key.name
            case "secrets":
                return _prepare_secret(new, old), []
            case "configmaps":
                parts = ("data", "binaryData")
                return _check_keys(new, *parts) + _unchanged_if_immutable(new, old, parts), []
            case "endpointslices":
                return _immutable(new, old, "addressType") or _check_slice(new), []
            case "leases":
                new.setdefault("spec", {})
                return _check_lease(new["spec"]), []
            case "events":
                return _check_event(key.namespace, new), []
            case "nodes":
                return _prepare_node(new.get("spec", {})), []
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
    for name, text in new.get("data", {}).items():
        if not _is_base64(text):
            raise bad_request(f"Secret cannot be handled: data[{name}] is not base64")
    causes = _check_keys(new, "data") + _check_secret_type(new)
    causes += _immutable(new, old, "type")
    return causes + _unchanged_if_immutable(new, old, ("data",))


def _check_secret_type(new: Json) -> list[Cause]:
    data = new.get("data", {})
    lacking: tuple[str, ...] = ()
    match new.get("type"):
        case "kubernetes.io/basic-auth":
            either = ("username", "password")
            lacking = () if set(either) & set(data) else either
        case "kubernetes.io/tls":
            lacking = tuple(name for name in ("tls.crt", "tls.key") if name not in data)
    return [missing(f"data[{name}]") for name in lacking]


def _check_slice(new: Json) -> list[Cause]:
    family = {"IPv4": 4, "IPv6": 6}.get(new.get("addressType", ""))
    causes = []
    for place, endpoint in enumerate(new.get("endpoints", [])):
        path = f"endpoints[{place}].addresses"
        if not endpoint.get("addresses"):
            causes.append(missing(path))
        for number, text in enumerate(endpoint.get("addresses", [])):
            if family is not None and _version_of(text) != family:
                wanted = f'Invalid value: "{text}": must be an IPv{family} address'
                causes.append(Cause(f"{path}[{number}]", wanted))
    return causes


def _version_of(text: str) -> int:
    try:
        return ip_address(text).version
    except ValueError:
        return 0


def _check_lease(spec: Json) -> list[Cause]:
    for field in ("acquireTime", "renewTime"):
        if spec.get(field) and not _MICRO_TIME.match(spec[field]):
            raise bad_request(
                f"Lease cannot be handled: spec.{field} is not a time with six decimals"
            )
    causes = []
    for field, least in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        if spec.get(field, least) < least:
            text = f"Invalid value: {spec[field]}: must be at least {least}"
            causes.append(Cause(f"spec.{field}", text))
    return causes


def _check_event(namespace: str, new: Json) -> list[Cause]:
    """An event stands where its object does; those of cluster-wide objects stand in `default`."""
    about = new.get("involvedObject", {}).get("namespace", "")
    if about == namespace or (not about and namespace == "default"):
        return []
    text = f'Invalid value: "{about}": does not match event.namespace'
    return [Cause("involvedObject.namespace", text)]


def _prepare_node(spec: Json) -> list[Cause]:
    if spec.get("podCIDR"):
        spec.setdefault("podCIDRs", [spec["podCIDR"]])
    choice = ", ".join(f'"{one}"' for one in _EFFECTS)
    return [
        Cause(
            # The path is that of Kubernetes, which looks for them in the metadata.
            f"metadata.taints[{place}].effect",
            f'Unsupported value: "{taint.get("effect", "")}": supported values: {choice}',
            "FieldValueNotSupported",
        )
        for place, taint in enumerate(spec.get("taints", []))
        if taint.get("effect") not in _EFFECTS
    ]


def _check_keys(new: Json, *parts: str) -> list[Cause]:
    """Keys become names of files in pods; a part without keys is not kept."""
    texts = new.get("data", {})
    causes = [
        Cause(f"data[{name}]", f'Invalid value: "{name}": binaryData has this key too')
        for name in new.get("binaryData", {})
        if name in texts
    ]
    for part in parts:
        if not new.get(part):
            new.pop(part, None)
        for name in new.get(part, ()):
            if not _DATA_KEY.match(name) or name in (".", "..") or name.startswith("../"):
                text = (
                    f'Invalid value: "{name}": a key consists of at most 253 alphanumeric '
                    "characters, '-', '_' or '.'"
                )
                causes.append(Cause(f"{part}[{name}]", text))
    return causes


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
