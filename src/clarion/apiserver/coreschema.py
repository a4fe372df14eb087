"""OpenAPI schemas of the Kubernetes kinds that this API stores.

They drive `kubectl explain`, unknown-field detection, pruning, strategic merge and field ownership.
The notation is compact: a dict is an object with these fields, a text is `type: description`.
"""

from typing import Any

Schema = dict[str, Any]

_SCALARS: dict[str, Schema] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "time": {"type": "string", "format": "date-time", "nullable": True},
    "port": {"x-kubernetes-int-or-string": True},
    "bytes": {"type": "string", "format": "byte"},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "value": {"x-kubernetes-preserve-unknown-fields": True},
    "strings": {
        "type": "array",
        "items": {"type": "string"},
        "x-kubernetes-list-type": "atomic",
    },
    "string-set": {
        "type": "array",
        "items": {"type": "string"},
        "x-kubernetes-list-type": "set",
        "x-kubernetes-patch-strategy": "merge",
    },
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "atomic-map": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "x-kubernetes-map-type": "atomic",
    },
    "bytes-map": {
        "type": "object",
        "additionalProperties": {"type": "string", "format": "byte"},
    },
    "quantities": {
        "type": "object",
        "additionalProperties": {"x-kubernetes-int-or-string": True},
    },
}


class Field:
    """A schema with keywords beyond its type."""

    def __init__(self, base: "str | dict[str, Any] | Field | None", **keywords: Any) -> None:
        self.schema = {**(build(base) if base is not None else {}), **keywords}


def build(spec: "str | dict[str, Any] | Field") -> Schema:
    """Turn the notation of this module into an OpenAPI schema."""
    if isinstance(spec, Field):
        return spec.schema
    if isinstance(spec, str):
        kind, _, description = spec.partition(": ")
        schema = dict(_SCALARS[kind])
        return {"description": description, **schema} if description else schema
    return {"type": "object", "properties": {name: build(value) for name, value in spec.items()}}


def _enum(description: str, *values: str, default: str = "") -> Field:
    keywords: Schema = {"enum": list(values)}
    if default:
        keywords["default"] = default
    return Field(f"string: {description}", **keywords)


def _need(spec: "dict[str, Any] | Field", *names: str) -> Field:
    return Field(spec, required=list(names))


def _doc(description: str, spec: "dict[str, Any] | Field") -> Field:
    return Field(spec, description=description)


def _atomic(items: "dict[str, Any] | Field", description: str = "") -> Field:
    """A list that is replaced as a whole."""
    schema: Schema = {
        "type": "array",
        "items": build(items),
        "x-kubernetes-list-type": "atomic",
    }
    if description:
        schema["description"] = description
    return Field(None, **schema)


def _merged(
    items: "dict[str, Any] | Field", *keys: str, merge: str = "", description: str = ""
) -> Field:
    """A list whose items are told apart by `keys`; strategic merge uses `merge` alone."""
    schema: Schema = {
        "type": "array",
        "items": build(items),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "x-kubernetes-patch-merge-key": merge or keys[0],
        "x-kubernetes-patch-strategy": "merge",
    }
    if description:
        schema["description"] = description
    return Field(None, **schema)


_OBJECT_REFERENCE = Field(
    {
        "apiVersion": "string",
        "kind": "string",
        "namespace": "string",
        "name": "string",
        "uid": "string",
        "resourceVersion": "string",
        "fieldPath": "string",
    },
    **{"x-kubernetes-map-type": "atomic"},
)

_CONDITION = _need(
    {
        "type": "string: what is observed",
        "status": "string: True, False or Unknown",
        "observedGeneration": "long",
        "lastTransitionTime": "time",
        "lastProbeTime": "time",
        "lastHeartbeatTime": "time",
        "lastUpdateTime": "time",
        "reason": "string: one word for programs",
        "message": "string: a sentence for people",
    },
    "type",
    "status",
)

_CONDITIONS = _merged(_CONDITION, "type", description="observed facts")

OBJECT_META: Schema = build(
    {
        "name": "string: name, unique in the namespace; cannot be changed",
        "generateName": "string: start of a name that the server completes",
        "namespace": "string: namespace of the object",
        "selfLink": "string",
        "uid": "string: identity of this very object, given by the server",
        "resourceVersion": "string: version of the stored object, given by the server",
        "generation": "long: counts changes of what is wanted",
        "creationTimestamp": "time: when the object was created",
        "deletionTimestamp": "time: since when the object waits for its finalizers",
        "deletionGracePeriodSeconds": "long",
        "labels": "map: names and values for selecting",
        "annotations": "map: names and values for tools",
        "ownerReferences": _merged(
            _need(
                Field(
                    {
                        "apiVersion": "string",
                        "kind": "string",
                        "name": "string",
                        "uid": "string",
                        "controller": "bool",
                        "blockOwnerDeletion": "bool",
                    },
                    **{"x-kubernetes-map-type": "atomic"},
                ),
                "apiVersion",
                "kind",
                "name",
                "uid",
            ),
            "uid",
            description="objects whose deletion deletes this one",
        ),
        "finalizers": "string-set: must be empty before the object goes",
        "managedFields": _atomic(
            {
                "manager": "string",
                "operation": "string",
                "apiVersion": "string",
                "time": "time",
                "fieldsType": "string",
                "fieldsV1": "any",
                "subresource": "string",
            },
            "who manages which fields",
        ),
    }
)

_SERVICE_SPEC = _doc(
    "what the service asks for",
    {
        "type": _enum(
            "how the service is reached",
            "ClusterIP",
            "NodePort",
            "LoadBalancer",
            "ExternalName",
        ),
        "clusterIP": "string: first address inside the cluster; None for a headless service",
        "clusterIPs": "strings: addresses inside the cluster, one per family",
        "ipFamilies": "strings: IPv4, IPv6 or both, in order of preference",
        "ipFamilyPolicy": _enum(
            "whether both families are wanted", "SingleStack", "PreferDualStack", "RequireDualStack"
        ),
        "ports": _merged(
            _need(
                {
                    "name": "string: name of the port; required when there are several",
                    "protocol": _enum("transport", "TCP", "UDP", "SCTP", default="TCP"),
                    "appProtocol": "string: application protocol",
                    "port": "int: port of the service",
                    "targetPort": "port: number or name of the port of the backends",
                    "nodePort": "int: port on every node",
                },
                "port",
            ),
            "port",
            "protocol",
            merge="port",
            description="ports of the service",
        ),
        "selector": "atomic-map: labels of the pods that are its backends",
        "externalTrafficPolicy": _enum(
            "Local keeps traffic on the node it reached, and the client's address",
            "Cluster",
            "Local",
        ),
        "internalTrafficPolicy": _enum("the same for traffic from inside", "Cluster", "Local"),
        "trafficDistribution": "string: preference among backends",
        "healthCheckNodePort": "int: port on which nodes tell whether they hold backends",
        "loadBalancerIP": "string: address asked for (one; deprecated)",
        "loadBalancerClass": "string: which load balancer shall serve it; fixed once set",
        "loadBalancerSourceRanges": "strings: clients that may connect",
        "allocateLoadBalancerNodePorts": "bool: whether node ports are given",
        "publishNotReadyAddresses": "bool: treat unready backends as ready",
        "sessionAffinity": _enum("whether a client stays with a backend", "None", "ClientIP"),
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": "int"}},
        "externalIPs": "strings: further addresses that nodes accept",
        "externalName": "string: DNS name, for type ExternalName",
    },
)

_SERVICE_STATUS = _doc(
    "what the service got",
    {
        "loadBalancer": {
            "ingress": _atomic(
                {
                    "ip": "string: address",
                    "hostname": "string: DNS name",
                    "ipMode": "string: VIP or Proxy",
                    "ports": _atomic({"port": "int", "protocol": "string", "error": "string"}),
                },
                "addresses given by the load balancer",
            )
        },
        "conditions": _CONDITIONS,
    },
)

_NODE_SPEC = {
    "podCIDR": "string: first range of pod addresses",
    "podCIDRs": "string-set: ranges of pod addresses",
    "providerID": "string",
    "externalID": "string",
    "unschedulable": "bool: no new pods",
    "taints": _atomic(
        _need({"key": "string", "value": "string", "effect": "string", "timeAdded": "time"}, "key")
    ),
    "configSource": "any",
}

_NODE_STATUS = {
    # A dual-stack node has two addresses of one type, so the type cannot tell them apart.
    "addresses": _atomic(_need({"type": "string", "address": "string"}, "type", "address")),
    "conditions": _CONDITIONS,
    "capacity": "quantities",
    "allocatable": "quantities",
    "phase": "string",
    "nodeInfo": "any",
    "daemonEndpoints": "any",
    "images": _atomic(Field("any")),
    "volumesInUse": "strings",
    "volumesAttached": _atomic(Field("any")),
    "config": "any",
    "runtimeHandlers": _atomic(Field("any")),
    "features": "any",
}

_CONTAINER = _need(
    Field(
        {
            "name": "string",
            "image": "string",
            "ports": _merged(
                {
                    "name": "string",
                    "containerPort": "int",
                    "hostPort": "int",
                    "hostIP": "string",
                    "protocol": _enum("transport", "TCP", "UDP", "SCTP", default="TCP"),
                },
                "containerPort",
                "protocol",
            ),
            "env": _merged({"name": "string", "value": "string", "valueFrom": "any"}, "name"),
            "volumeMounts": _merged(Field("any"), "mountPath"),
        },
        **{"x-kubernetes-preserve-unknown-fields": True},
    ),
    "name",
)

_POD_SPEC = Field(
    {
        "containers": _merged(_CONTAINER, "name"),
        "initContainers": _merged(_CONTAINER, "name"),
        "ephemeralContainers": _merged(Field("any"), "name"),
        "volumes": _merged(Field("any"), "name"),
        "imagePullSecrets": _merged({"name": "string"}, "name"),
        "tolerations": _atomic(Field("any")),
        "nodeName": "string: node that runs the pod",
        "nodeSelector": "atomic-map",
        "hostNetwork": "bool",
    },
    **{"x-kubernetes-preserve-unknown-fields": True},
)

_POD_STATUS = Field(
    {
        "phase": "string",
        "conditions": _CONDITIONS,
        "podIP": "string",
        "podIPs": _merged({"ip": "string"}, "ip"),
        "hostIP": "string",
    },
    **{"x-kubernetes-preserve-unknown-fields": True},
)

_ENDPOINT = _need(
    {
        "addresses": "string-set: addresses of one backend",
        "conditions": {"ready": "bool", "serving": "bool", "terminating": "bool"},
        "hostname": "string",
        "targetRef": _OBJECT_REFERENCE,
        "deprecatedTopology": "map",
        "nodeName": "string: node that runs it",
        "zone": "string",
        "hints": "any",
    },
    "addresses",
)

_KINDS: dict[str, dict[str, Any]] = {
    "Namespace": {
        "spec": {"finalizers": "strings"},
        "status": {"phase": "string: Active or Terminating", "conditions": _CONDITIONS},
    },
    "Node": {"spec": _doc("what is wanted", _NODE_SPEC), "status": _NODE_STATUS},
    "Service": {"spec": _SERVICE_SPEC, "status": _SERVICE_STATUS},
    "EndpointSlice": {
        "addressType": Field(
            "string: family of the addresses; cannot be changed", enum=["IPv4", "IPv6", "FQDN"]
        ),
        "endpoints": _atomic(_ENDPOINT, "backends"),
        "ports": _atomic(
            {
                "name": Field("string: name of the service port", default=""),
                "protocol": _enum("transport", "TCP", "UDP", "SCTP", default="TCP"),
                "port": "int",
                "appProtocol": "string",
            },
            "ports of every backend",
        ),
    },
    "Secret": {
        "type": Field("string: what the values are for", default="Opaque"),
        "immutable": "bool",
        "data": "bytes-map: values, in base64",
        "stringData": "map: values as text; written only",
    },
    "ConfigMap": {
        "immutable": "bool",
        "data": "map: values",
        "binaryData": "bytes-map: values, in base64",
    },
    "Event": {
        "involvedObject": Field(_OBJECT_REFERENCE, description="what it is about"),
        "reason": "string: one word for programs",
        "message": "string: a sentence for people",
        "source": {"component": "string", "host": "string"},
        "firstTimestamp": "time",
        "lastTimestamp": "time",
        "count": "int: how often it was seen",
        "type": "string: Normal or Warning",
        "eventTime": "time",
        "series": {"count": "int", "lastObservedTime": "time", "state": "string"},
        "action": "string",
        "related": _OBJECT_REFERENCE,
        "reportingComponent": Field("string", default=""),
        "reportingInstance": Field("string", default=""),
    },
    "Lease": {
        "spec": {
            "holderIdentity": "string: who holds it",
            "leaseDurationSeconds": "int: valid so long after renewTime",
            "acquireTime": "time",
            "renewTime": "time",
            "leaseTransitions": "int: how often the holder changed",
            "strategy": "string",
            "preferredHolder": "string",
        }
    },
    "Pod": {"spec": _POD_SPEC, "status": _POD_STATUS},
    "CustomResourceDefinition": {"spec": "any", "status": "any"},
}

_REQUIRED = {
    "EndpointSlice": ["addressType"],
    "Event": ["metadata", "involvedObject"],
    "CustomResourceDefinition": ["spec"],
}


def schema_of(kind: str) -> Schema:
    """The schema of a core kind, without its metadata."""
    schema = build({"apiVersion": "string", "kind": "string", "metadata": "any", **_KINDS[kind]})
    if kind in _REQUIRED:
        schema["required"] = list(_REQUIRED[kind])
    return schema
