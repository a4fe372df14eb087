"""Tables for `kubectl get`: the columns that a cluster prints, for every kind.

Ages are computed here; kubectl prints cells as they come.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from clarion.apiserver.status import Json
from clarion.apiserver.wire import decode, encode
from clarion.model.kinds import Column, Kind

NONE = "<none>"
_UNKNOWN = "<unknown>"
_ROLE_LABEL = "node-role.kubernetes.io/"


class _View(msgspec.Struct, frozen=True):
    """The columns of a kind, and the cells of one object under them."""

    columns: tuple[Column, ...]
    cells: Callable[[Json, datetime], list[Any]]


RowObject = Literal["None", "Metadata", "Object"]
"""`includeObject` of a request for a table."""


def make_table(
    kind: Kind,
    bodies: Sequence[bytes],
    metadata: Json,
    now: datetime,
    *,
    headers: bool,
    objects: RowObject = "Metadata",
) -> Json:
    """A `meta.k8s.io/v1` Table of objects given as JSON; `objects`: what a row holds of its own."""
    view = _VIEWS.get(kind.kind) or _custom_view(kind)
    table: Json = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
    table["columnDefinitions"] = [_definition(one) for one in view.columns] if headers else None
    table["rows"] = [_row(view, decode(body), now, objects) for body in bodies]
    return table


def _definition(column: Column) -> Json:
    return {
        "name": column.name,
        "type": column.type,
        "format": "name" if column.name == "Name" else "",
        "description": "",
        "priority": column.priority,
    }


def _row(view: _View, body: Json, now: datetime, objects: RowObject) -> Json:
    cells = view.cells(body, now)
    if objects == "Object":
        return {"cells": cells, "object": body}
    if objects == "None":
        return {"cells": cells, "object": None}
    partial = {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": body["metadata"],
    }
    return {"cells": cells, "object": partial}


def _read_time(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def age(text: Any, now: datetime) -> str:
    """How long ago a moment was, in the two units that kubectl shows."""
    moment = _read_time(text)
    if moment is None:
        return _UNKNOWN
    seconds = int((now - moment).total_seconds())
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _name(body: Json) -> str:
    return str(body["metadata"].get("name", ""))


def _created(body: Json, now: datetime) -> str:
    return age(body["metadata"].get("creationTimestamp"), now)


def _pairs(labels: Json) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or NONE


# Services.


def _service(body: Json, now: datetime) -> list[Any]:
    spec = body.get("spec", {})
    return [
        _name(body),
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        _external_address(body, spec),
        _service_ports(spec.get("ports", [])),
        _created(body, now),
        _pairs(spec.get("selector") or {}),
    ]


def _external_address(body: Json, spec: Json) -> str:
    external = spec.get("externalIPs", [])
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName", ""))
        case "LoadBalancer":
            ingress = body.get("status", {}).get("loadBalancer", {}).get("ingress", [])
            given = sorted({one.get("ip") or one.get("hostname", "") for one in ingress})
            return ",".join([*given, *external]) or "<pending>"
    return ",".join(external) or NONE


def _service_ports(ports: list[Json]) -> str:
    texts = [
        f"{port.get('port')}:{port['nodePort']}/{port.get('protocol')}"
        if port.get("nodePort")
        else f"{port.get('port')}/{port.get('protocol')}"
        for port in ports
    ]
    return ",".join(texts) or NONE


# Nodes and pods.


def _node(body: Json, now: datetime) -> list[Any]:
    status, spec = body.get("status", {}), body.get("spec", {})
    labels = body["metadata"].get("labels", {})
    roles = sorted(key.removeprefix(_ROLE_LABEL) for key in labels if key.startswith(_ROLE_LABEL))
    addresses = status.get("addresses", [])
    info = status.get("nodeInfo", {})
    return [
        _name(body),
        _node_state(status.get("conditions", []), spec),
        ",".join(role for role in roles if role) or NONE,
        _created(body, now),
        info.get("kubeletVersion", ""),
        _first_address(addresses, "InternalIP"),
        _first_address(addresses, "ExternalIP"),
        info.get("osImage") or _UNKNOWN,
        info.get("kernelVersion") or _UNKNOWN,
        info.get("containerRuntimeVersion") or _UNKNOWN,
    ]


def _node_state(conditions: list[Json], spec: Json) -> str:
    ready = next((one for one in conditions if one.get("type") == "Ready"), None)
    state = "Unknown"
    if ready is not None:
        state = "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{state},SchedulingDisabled" if spec.get("unschedulable") else state


def _first_address(addresses: list[Json], kind: str) -> str:
    return next((str(one["address"]) for one in addresses if one.get("type") == kind), NONE)


def _pod(body: Json, now: datetime) -> list[Any]:
    spec, status = body.get("spec", {}), body.get("status", {})
    containers = spec.get("containers", [])
    states = status.get("containerStatuses", [])
    ready = sum(1 for one in states if one.get("ready"))
    phase = status.get("reason") or status.get("phase", "")
    if body["metadata"].get("deletionTimestamp"):
        phase = "Terminating"
    return [
        _name(body),
        f"{ready}/{len(containers)}",
        phase,
        str(sum(one.get("restartCount", 0) for one in states)),
        _created(body, now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


# Endpoint slices, events and the rest.


def _endpoint_slice(body: Json, now: datetime) -> list[Any]:
    addresses = [
        str(address)
        for endpoint in body.get("endpoints") or []
        for address in endpoint.get("addresses", [])
    ]
    ports = [str(port["port"]) for port in body.get("ports") or [] if port.get("port")]
    return [
        _name(body),
        body.get("addressType", ""),
        _shortened(ports),
        _shortened(addresses),
        _created(body, now),
    ]


def _shortened(items: list[str]) -> str:
    if not items:
        return "<unset>"
    rest = f" + {len(items) - 3} more..." if len(items) > 3 else ""
    return ",".join(items[:3]) + rest


def _event(body: Json, now: datetime) -> list[Any]:
    about = body.get("involvedObject", {})
    source = body.get("source", {})
    series = body.get("series") or {}
    first = body.get("firstTimestamp") or body.get("eventTime")
    last = series.get("lastObservedTime") or body.get("lastTimestamp") or first
    component = source.get("component") or body.get("reportingComponent", "")
    host = source.get("host") or body.get("reportingInstance", "")
    kind = about.get("kind", "").lower()
    name = about.get("name", "")
    return [
        age(last, now),
        body.get("type", ""),
        body.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        body.get("message", "").strip(),
        age(first, now),
        series.get("count") or body.get("count") or 1,
        _name(body),
    ]


def _namespace(body: Json, now: datetime) -> list[Any]:
    return [_name(body), body.get("status", {}).get("phase", ""), _created(body, now)]


def _secret(body: Json, now: datetime) -> list[Any]:
    return [_name(body), body.get("type", ""), len(body.get("data", {})), _created(body, now)]


def _config_map(body: Json, now: datetime) -> list[Any]:
    count = len(body.get("data", {})) + len(body.get("binaryData", {}))
    return [_name(body), count, _created(body, now)]


def _lease(body: Json, now: datetime) -> list[Any]:
    holder = body.get("spec", {}).get("holderIdentity", "")
    return [_name(body), holder, _created(body, now)]


def _definition_cells(body: Json, now: datetime) -> list[Any]:  # noqa: ARG001 - same shape as all
    return [_name(body), body["metadata"].get("creationTimestamp", _UNKNOWN)]


def _columns(*names: str) -> tuple[Column, ...]:
    """Columns by name: `Count#` holds numbers, a leading `+` is shown with `-o wide` only."""
    return tuple(
        Column(
            name.strip("+#"),
            "integer" if name.endswith("#") else "string",
            "",
            priority=1 if name.startswith("+") else 0,
        )
        for name in names
    )


_VIEWS: dict[str, _View] = {
    "Service": _View(
        _columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "+Selector"),
        _service,
    ),
    "Node": _View(
        _columns(
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "+Internal-IP",
            "+External-IP",
            "+OS-Image",
            "+Kernel-Version",
            "+Container-Runtime",
        ),
        _node,
    ),
    "Pod": _View(
        _columns(
            "Name",
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "+IP",
            "+Node",
            "+Nominated Node",
            "+Readiness Gates",
        ),
        _pod,
    ),
    "EndpointSlice": _View(
        _columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _endpoint_slice
    ),
    "Event": _View(
        _columns(
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "+Subobject",
            "+Source",
            "Message",
            "+First Seen",
            "+Count",
            "+Name",
        ),
        _event,
    ),
    "Namespace": _View(_columns("Name", "Status", "Age"), _namespace),
    "Secret": _View(_columns("Name", "Type", "Data", "Age"), _secret),
    "ConfigMap": _View(_columns("Name", "Data", "Age"), _config_map),
    "Lease": _View(_columns("Name", "Holder", "Age"), _lease),
    "CustomResourceDefinition": _View(_columns("Name", "Created At"), _definition_cells),
}


def _custom_view(kind: Kind) -> _View:
    """The printer columns of a custom resource; without any, its age."""
    own = kind.columns or (Column("Age", "date", ".metadata.creationTimestamp"),)

    def cells(body: Json, now: datetime) -> list[Any]:
        return [_name(body), *(_custom_cell(column, body, now) for column in own)]

    return _View((*_columns("Name"), *own), cells)


def _custom_cell(column: Column, body: Json, now: datetime) -> Any:
    value: Any = body
    for step in column.json_path.strip(".").split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return None
    if column.type == "date":
        return age(value, now)
    if column.type == "string" and not isinstance(value, str):
        return encode(value).decode()
    return value
