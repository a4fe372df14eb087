"""Rows of the kinds of Kubernetes itself, in the form of `schema_text.py`.

Unknown fields of these kinds are kept, since only a part of each is modelled here. Defaults that
depend on other fields (ports of a service, policies) are the embedded API's, not the schema's.
"""

from clarion.model.schema_text import Keywords, Rule, rule

_INT32: Keywords = {"format": "int32"}
_INT64: Keywords = {"format": "int64"}
_TIME: Keywords = {"format": "date-time"}
_PORT: Keywords = {"format": "int32", "minimum": 1, "maximum": 65535}
_NODE_PORT: Keywords = {"format": "int32", "minimum": 0, "maximum": 65535}
_PROTOCOL: Keywords = {"enum": ["TCP", "UDP", "SCTP"]}
_BY_TYPE: Keywords = {"x_kubernetes_list_type": "map", "x_kubernetes_list_map_keys": ["type"]}
_FAMILY = ["IPv4", "IPv6"]

_CONDITION = {
    "type": rule("What is stated.", required=True),
    "status": rule("True, False or Unknown.", required=True),
    "reason": rule("One word for the cause."),
    "message": rule("The cause in words."),
    "lastTransitionTime": rule("When the status last changed.", **_TIME),
}
_SPEC = rule("What is wanted.")
_STATUS = rule("What was observed.")

CORE_META: dict[str, dict[str, Rule]] = {
    "ObjectMeta": {
        "name": rule("Name, unique within kind and namespace."),
        "generateName": rule("Beginning of a name that the API completes."),
        "namespace": rule("Namespace of the object."),
        "uid": rule("Identity that no later object of this name shares."),
        "resourceVersion": rule("Version of the object; a write that gives an old one is refused."),
        "generation": rule("Counts the changes of what is wanted.", **_INT64),
        "creationTimestamp": rule("When the object was created.", nullable=True, **_TIME),
        "deletionTimestamp": rule("When the object is to be deleted.", nullable=True, **_TIME),
        "deletionGracePeriodSeconds": rule("Seconds until the deletion.", **_INT64),
        "labels": rule("Keys and values by which objects are selected."),
        "annotations": rule("Keys and values that tools attach."),
        "ownerReferences": rule(
            "Objects whose deletion deletes this one.",
            x_kubernetes_list_type="map",
            x_kubernetes_list_map_keys=["uid"],
        ),
        "finalizers": rule("Names of those who must let go before the object is deleted."),
    },
    "OwnerReference": {
        "apiVersion": rule("Version of the owner.", required=True),
        "kind": rule("Kind of the owner.", required=True),
        "name": rule("Name of the owner.", required=True),
        "uid": rule("Identity of the owner.", required=True),
        "controller": rule("Whether the owner is the one that manages the object."),
        "blockOwnerDeletion": rule("Whether the owner cannot go before the object."),
    },
    "ObjectReference": {
        "apiVersion": rule("Version of the object."),
        "kind": rule("Kind of the object."),
        "namespace": rule("Namespace of the object."),
        "name": rule("Name of the object."),
        "uid": rule("Identity of the object."),
        "resourceVersion": rule("Version of the object that is meant."),
        "fieldPath": rule("Part of the object that is meant."),
    },
}
"""Rows of the metadata that every object has."""

CORE: dict[str, dict[str, Rule]] = {
    "Namespace": {"status": _STATUS},
    "NamespaceStatus": {"phase": rule("Active or Terminating.")},
    "Node": {"spec": _SPEC, "status": _STATUS},
    "NodeSpec": {
        "podCIDR": rule("Prefix of the node's pods."),
        "podCIDRs": rule("Prefixes of the node's pods, one per family."),
        "providerID": rule("Identity of the machine at its provider."),
        "unschedulable": rule("Whether new pods are kept away."),
        "taints": rule("Marks that repel pods."),
    },
    "Taint": {
        "key": rule("Key of the taint.", required=True),
        "value": rule("Value of the taint."),
        "effect": rule("NoSchedule, PreferNoSchedule or NoExecute.", required=True),
    },
    "NodeStatus": {
        "conditions": rule("Facts about the node.", **_BY_TYPE),
        "addresses": rule("Addresses of the node."),
    },
    "NodeCondition": {
        **_CONDITION,
        "lastHeartbeatTime": rule("When the fact was last confirmed.", **_TIME),
    },
    "NodeAddress": {
        "type": rule("InternalIP, ExternalIP, Hostname and others.", required=True),
        "address": rule("The address.", required=True),
    },
    "Service": {"spec": _SPEC, "status": _STATUS},
    "ServiceSpec": {
        "type": rule(
            "How the service is reached.",
            default="ClusterIP",
            enum=["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
        ),
        "clusterIP": rule("Address inside the cluster; None for a service without one."),
        "clusterIPs": rule("Addresses inside the cluster, one per family."),
        "ipFamilies": rule("Families of the service.", items_enum=_FAMILY),
        "ipFamilyPolicy": rule(
            "Whether one family or two are wanted.",
            enum=["SingleStack", "PreferDualStack", "RequireDualStack"],
        ),
        "ports": rule(
            "Ports of the service.",
            x_kubernetes_list_type="map",
            x_kubernetes_list_map_keys=["port", "protocol"],
        ),
        "selector": rule("Labels of the pods that serve."),
        "externalTrafficPolicy": rule(
            "Whether traffic from outside may be passed on to other nodes.",
            enum=["Cluster", "Local"],
        ),
        "internalTrafficPolicy": rule(
            "Whether traffic from inside may be passed on to other nodes.",
            enum=["Cluster", "Local"],
        ),
        "trafficDistribution": rule("Preference for near backends."),
        "healthCheckNodePort": rule("Port that tells whether a node has backends.", **_NODE_PORT),
        "loadBalancerIP": rule("Requested address; the annotation can name two."),
        "loadBalancerClass": rule("Which load balancer implementation shall serve."),
        "loadBalancerSourceRanges": rule("Prefixes from which traffic is let in."),
        "allocateLoadBalancerNodePorts": rule("Whether node ports are given."),
        "publishNotReadyAddresses": rule("Whether backends count before they are ready."),
        "sessionAffinity": rule(
            "Whether a client keeps its backend.", default="None", enum=["None", "ClientIP"]
        ),
        "sessionAffinityConfig": rule("Parameters of sessionAffinity."),
        "externalIPs": rule("Further addresses that nodes accept."),
        "externalName": rule("Name that a service of type ExternalName stands for."),
    },
    "SessionAffinityConfig": {"clientIP": rule("Parameters of affinity by client address.")},
    "ClientIPConfig": {"timeoutSeconds": rule("How long a client keeps its backend.", **_INT32)},
    "ServicePort": {
        "name": rule("Name of the port, unique in the service."),
        "protocol": rule("Transport protocol.", default="TCP", **_PROTOCOL),
        "appProtocol": rule("Protocol above the transport."),
        "port": rule("Number of the port.", required=True, **_PORT),
        "targetPort": rule("Number or name of the backends' port."),
        "nodePort": rule("Port on every node.", **_NODE_PORT),
    },
    "ServiceStatus": {
        "loadBalancer": rule("What the load balancer gave."),
        "conditions": rule("Facts about the service.", **_BY_TYPE),
    },
    "LoadBalancerStatus": {"ingress": rule("Addresses of the service.")},
    "LoadBalancerIngress": {
        "ip": rule("The address."),
        "hostname": rule("Name in place of an address."),
        "ipMode": rule("VIP or Proxy."),
        "ports": rule("State of each port."),
    },
    "PortStatus": {
        "port": rule("Number of the port.", required=True, **_INT32),
        "protocol": rule("Transport protocol.", required=True),
        "error": rule("What is wrong with the port."),
    },
    "EndpointSlice": {
        "addressType": rule("Kind of the addresses.", required=True, enum=["IPv4", "IPv6", "FQDN"]),
        "endpoints": rule("Backends."),
        "ports": rule("Ports of all backends of the slice."),
    },
    "Endpoint": {
        "addresses": rule("Addresses of the backend, all equivalent.", required=True),
        "conditions": rule("State of the backend."),
        "hostname": rule("Host name of the backend."),
        "nodeName": rule("Node on which the backend runs."),
        "zone": rule("Zone in which the backend runs."),
        "targetRef": rule("The pod behind the backend."),
    },
    "EndpointConditions": {
        "ready": rule("Whether the backend takes traffic; absent means it does."),
        "serving": rule("Like ready, but true also while terminating."),
        "terminating": rule("Whether the backend is going away."),
    },
    "EndpointPort": {
        "name": rule("Name of the port."),
        "protocol": rule("Transport protocol.", default="TCP", **_PROTOCOL),
        "port": rule("Number of the port.", **_INT32),
        "appProtocol": rule("Protocol above the transport."),
    },
    "Secret": {
        "type": rule("What the keys mean.", default="Opaque"),
        "immutable": rule("Whether the values are fixed."),
        "data": rule("Values, base64."),
        "stringData": rule("Values as text; turned into data when written."),
    },
    "ConfigMap": {
        "immutable": rule("Whether the values are fixed."),
        "data": rule("Values."),
        "binaryData": rule("Values that are no text, base64."),
    },
    "Event": {
        "involvedObject": rule("What it happened to.", required=True),
        "reason": rule("One word for what happened."),
        "message": rule("What happened, in words."),
        "type": rule("Normal or Warning."),
        "action": rule("What was done."),
        "count": rule("How often it happened.", **_INT32),
        "firstTimestamp": rule("When it first happened.", nullable=True, **_TIME),
        "lastTimestamp": rule("When it last happened.", nullable=True, **_TIME),
        "eventTime": rule("When it happened.", nullable=True, **_TIME),
        "series": rule("How often it happened, new form."),
        "source": rule("Who reports it, old form."),
        "related": rule("Another object that has part in it."),
        "reportingComponent": rule("Who reports it."),
        "reportingInstance": rule("Which of several reports it."),
    },
    "EventSource": {
        "component": rule("Program that reports."),
        "host": rule("Node on which it runs."),
    },
    "EventSeries": {
        "count": rule("How often it happened.", **_INT32),
        "lastObservedTime": rule("When it last happened.", **_TIME),
    },
    "Lease": {"spec": _SPEC},
    "LeaseSpec": {
        "holderIdentity": rule("Who holds the lease."),
        "leaseDurationSeconds": rule("How long it holds without renewal.", **_INT32),
        "acquireTime": rule("When the holder got it.", **_TIME),
        "renewTime": rule("When the holder last renewed it.", **_TIME),
        "leaseTransitions": rule("How often the holder changed.", **_INT32),
    },
    "Pod": {"spec": _SPEC, "status": _STATUS},
    "PodSpec": {
        "nodeName": rule("Node on which the pod runs."),
        "hostNetwork": rule("Whether the pod shares the node's network."),
    },
    "PodStatus": {
        "phase": rule("Pending, Running, Succeeded, Failed or Unknown."),
        "hostIP": rule("Address of the node."),
        "podIP": rule("Address of the pod."),
        "podIPs": rule("Addresses of the pod, one per family."),
        "conditions": rule("Facts about the pod.", **_BY_TYPE),
    },
    "PodIP": {"ip": rule("The address.")},
    "PodCondition": _CONDITION,
    "CustomResourceDefinition": {
        "spec": rule("What the kind is.", required=True),
        "status": _STATUS,
    },
    "CustomResourceDefinitionSpec": {
        "group": rule("Group of the kind.", required=True),
        "names": rule("Names of the kind.", required=True),
        "scope": rule(
            "Whether objects live in namespaces.", required=True, enum=["Namespaced", "Cluster"]
        ),
        "versions": rule("Versions of the kind.", required=True),
        "conversion": rule("How versions are converted."),
        "preserveUnknownFields": rule("Deprecated; must be false."),
    },
    "CustomResourceNames": {
        "plural": rule("Name in paths.", required=True),
        "singular": rule("Name of one."),
        "kind": rule("Name in objects.", required=True),
        "listKind": rule("Name in lists."),
        "shortNames": rule("Short names for the command line."),
        "categories": rule("Groups of kinds for the command line, such as all."),
    },
    "CustomResourceVersion": {
        "name": rule("Name of the version.", required=True),
        "served": rule("Whether the version is served.", required=True),
        "storage": rule("Whether objects are stored in this version.", required=True),
        "deprecated": rule("Whether users are warned."),
        "deprecationWarning": rule("The warning."),
        "schema": rule("Structure of the objects."),
        "subresources": rule("Whether status and scale are written on their own."),
        "additionalPrinterColumns": rule("Columns that are printed."),
    },
    "CustomResourceColumn": {
        "name": rule("Heading.", required=True),
        "type": rule("Type of the value.", required=True),
        "jsonPath": rule("Where the value stands.", required=True),
        "description": rule("Meaning of the value."),
        "format": rule("Format of the value."),
        "priority": rule("Above 0: only in the wide output.", **_INT32),
    },
    "CustomResourceDefinitionStatus": {
        "acceptedNames": rule("Names in use."),
        "conditions": rule("Facts about the definition.", **_BY_TYPE),
        "storedVersions": rule("Versions that were ever stored."),
    },
}
"""Rows of the core kinds."""
