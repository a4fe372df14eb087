"""What the structs cannot say about their fields: meaning, ranges, enums, defaults, rules.

One table per struct, keyed by the Kubernetes spelling of the field. `schema.py` joins it with the
types of the structs; a test holds that every field has its row and every row its field.
"""

from typing import Any, NamedTuple

Keywords = dict[str, Any]


class Rule(NamedTuple):
    """Description of a field, whether it must be given, and further schema keywords."""

    description: str
    required: bool
    keywords: Keywords


def rule(description: str, *, required: bool = False, **keywords: Any) -> Rule:
    """Write one row; keywords are those of OpenAPI, underscores standing for dashes."""
    named = {
        (key.replace("_", "-") if key.startswith("x_") else key): value
        for key, value in keywords.items()
    }
    return Rule(description, required, named)


def cel(expression: str, message: str) -> dict[str, str]:
    """One rule in the Common Expression Language with the message shown when it fails."""
    return {"rule": expression, "message": message}


SET_ONCE_RULE = cel("self == oldSelf", "cannot change once it is set")
AGGREGATION_RULE = cel(
    "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || "
    "((!has(self.aggregationLength) || self.aggregationLength == 32) && "
    "(!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
    "serviceSelectors need aggregationLength 32 and aggregationLengthV6 128: an aggregate may hold "
    "addresses of other services",
)
CONNECT_RANGE_RULE = cel(
    "duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535",
    "must be a duration between 1s and 65535s",
)
CONNECT_WHOLE_RULE = cel(
    "duration(self).getMilliseconds() % 1000 == 0", "must be a whole number of seconds"
)

_ATOMIC_MAP: Keywords = {"x_kubernetes_map_type": "atomic"}
_ATOMIC_LIST: Keywords = {"x_kubernetes_list_type": "atomic"}
_INT32: Keywords = {"format": "int32"}
_INT64: Keywords = {"format": "int64"}
_ASN: Keywords = {"format": "int64", "minimum": 0, "maximum": 4294967295}
_MILLISECONDS: Keywords = {"format": "int32", "minimum": 10, "maximum": 60000}
_PORT: Keywords = {"format": "int32", "minimum": 0, "maximum": 65535}
_SET_ONCE: Keywords = {
    "x_kubernetes_validations": [cel("self == oldSelf", "cannot change once it is set")]
}

_NODE_SELECTORS = rule(
    "Nodes to which this applies: those whose labels match one of the selectors. Without "
    "selectors, all nodes."
)
_SERVICE_SELECTORS = rule(
    "Services to which this applies: those whose labels match one of the selectors. Without "
    "selectors, all services."
)
_POOLS = rule(
    "Names of the pools whose addresses are announced. When neither this nor "
    "ipAddressPoolSelectors is given, all pools are."
)
_POOL_SELECTORS = rule(
    "Pools whose addresses are announced, chosen by label, in addition to those named in "
    "ipAddressPools."
)
_NO_STATUS = rule("Empty: nothing is reported here.")
_NO_SPEC = rule("Empty: nothing can be asked for; the object only reports.")
_STATUS_NODE = rule("Node that announces.", **_SET_ONCE)
_STATUS_SERVICE = rule("Name of the announced service.", **_SET_ONCE)
_STATUS_NAMESPACE = rule("Namespace of the announced service.", **_SET_ONCE)

_PEER_COMMON = {
    "myASN": rule("AS number of the local end of the session.", required=True, **_ASN),
    "sourceAddress": rule("Local address from which the session is opened."),
    "holdTime": rule(
        "Hold time offered to the peer, as a duration such as 90s: 0s, or 3s and more. Without "
        "it, three times keepaliveTime if that is given, else the speaker's default."
    ),
    "keepaliveTime": rule(
        "Time between keepalives, as a duration such as 30s. Without it, a third of holdTime."
    ),
    "routerID": rule("BGP identifier of the local end, in the form of an IPv4 address."),
    "nodeSelectors": _NODE_SELECTORS,
    "password": rule("Password of the session (TCP MD5 signature). Prefer passwordSecret."),
    "bfdProfile": rule("Name of the BFDProfile with which the session is watched."),
    "ebgpMultiHop": rule("Whether an external peer may be more than one hop away."),
}

METALLB: dict[str, dict[str, Rule]] = {
    "IPAddressPool": {
        "spec": rule("Addresses of the pool and who may have them.", required=True),
        "status": rule("Usage of the pool."),
    },
    "IPAddressPoolSpec": {
        "addresses": rule(
            "Addresses of the pool, in order of allocation: prefixes such as 192.0.2.0/24, or "
            "ranges such as 192.0.2.10-192.0.2.19. IPv4 and IPv6 may be mixed.",
            required=True,
        ),
        "autoAssign": rule(
            "Whether services that name no pool may get addresses from this one.", default=True
        ),
        "avoidBuggyIPs": rule(
            "Whether to leave out IPv4 addresses that end in .0 or .255, which some old devices "
            "refuse.",
            default=False,
        ),
        "serviceAllocation": rule("Limits the pool to some services, and orders it among others."),
    },
    "ServiceAllocation": {
        "priority": rule("Pools with a lower priority are tried first; 0 is tried last.", **_INT32),
        "namespaces": rule("Names of the namespaces whose services may use the pool."),
        "namespaceSelectors": rule(
            "Namespaces whose services may use the pool, chosen by label, in addition to those "
            "named in namespaces."
        ),
        "serviceSelectors": rule("Services that may use the pool, chosen by label."),
    },
    "IPAddressPoolStatus": {
        "assignedIPv4": rule("IPv4 addresses in use.", required=True, **_INT64),
        "assignedIPv6": rule("IPv6 addresses in use.", required=True, **_INT64),
        "availableIPv4": rule("IPv4 addresses that are free.", required=True, **_INT64),
        "availableIPv6": rule("IPv6 addresses that are free.", required=True, **_INT64),
    },
    "BGPAdvertisement": {
        "spec": rule(
            "What is announced, to whom and how.", x_kubernetes_validations=[AGGREGATION_RULE]
        ),
        "status": _NO_STATUS,
    },
    "BGPAdvertisementSpec": {
        "aggregationLength": rule(
            "Length of the IPv4 prefix that is announced for an address; below 32 several "
            "addresses share one route.",
            default=32,
            minimum=1,
            maximum=32,
            **_INT32,
        ),
        "aggregationLengthV6": rule(
            "Length of the IPv6 prefix that is announced for an address; below 128 several "
            "addresses share one route.",
            default=128,
            minimum=1,
            maximum=128,
            **_INT32,
        ),
        "localPref": rule(
            "LOCAL_PREF of the routes, told to internal peers only; the highest wins.",
            minimum=0,
            maximum=4294967295,
            **_INT64,
        ),
        "communities": rule(
            "BGP communities of the routes: 65535:65282, large:64500:1:2, extended:rt:64500:1, or "
            "a name that a Community defines."
        ),
        "ipAddressPools": _POOLS,
        "ipAddressPoolSelectors": _POOL_SELECTORS,
        "nodeSelectors": _NODE_SELECTORS,
        "peers": rule("Names of the BGPPeers that are told. Without names, all are."),
        "serviceSelectors": _SERVICE_SELECTORS,
    },
    "L2Advertisement": {
        "spec": rule("What is announced, by which nodes and where."),
        "status": _NO_STATUS,
    },
    "L2AdvertisementSpec": {
        "ipAddressPools": _POOLS,
        "ipAddressPoolSelectors": _POOL_SELECTORS,
        "nodeSelectors": _NODE_SELECTORS,
        "preferredNodeSelectors": rule(
            "Nodes that should rather own the addresses; the sum of the weights of those that "
            "match decides, before the usual order."
        ),
        "interfaces": rule(
            "Names of the interfaces on which the owner answers. Without names, all. The "
            "interfaces have no part in the choice of the owner."
        ),
        "serviceSelectors": _SERVICE_SELECTORS,
    },
    "PreferredNodeSelector": {
        "weight": rule("How much a match counts.", required=True, minimum=1, maximum=100, **_INT32),
        "preference": rule("Labels of the preferred nodes.", required=True),
    },
    "BGPPeer": {
        "spec": rule("The peer and the session with it."),
        "status": _NO_STATUS,
    },
    "BGPPeerSpec": {
        **_PEER_COMMON,
        "peerASN": rule(
            "AS number expected of the peer. Either this or dynamicASN is given.", **_ASN
        ),
        "dynamicASN": rule(
            "Instead of peerASN: accept any AS number but ours (external), or only ours "
            "(internal).",
            enum=["internal", "external"],
        ),
        "localASN": rule(
            "AS number shown to this peer in place of myASN.",
            format="int64",
            minimum=1,
            maximum=4294967295,
        ),
        "peerAddress": rule("Address of the peer. Either this or interface is given."),
        "interface": rule("Interface behind which an unnumbered peer is found by itself."),
        "peerPort": rule(
            "TCP port of the peer.", default=179, format="int32", minimum=1, maximum=65535
        ),
        "connectTime": rule(
            "Time between attempts to connect, as a duration in whole seconds, 1s to 65535s.",
            x_kubernetes_validations=[CONNECT_RANGE_RULE, CONNECT_WHOLE_RULE],
        ),
        "passwordSecret": rule(
            "Secret of type kubernetes.io/basic-auth whose key password holds the password of the "
            "session. It is looked up in the namespace of the speakers.",
            **_ATOMIC_MAP,
        ),
        "enableGracefulRestart": rule(
            "Whether the peer shall keep our routes while the speaker restarts.", **_SET_ONCE
        ),
        "vrf": rule("VRF in which the peer is reached."),
        "disableMP": rule("Deprecated, without effect.", default=False),
        "dualStackAddressFamily": rule(
            "Whether IPv4 and IPv6 routes are both carried, whatever the family of the session.",
            default=False,
        ),
    },
    "SecretReference": {
        "name": rule("Name of the Secret."),
        "namespace": rule("Namespace of the Secret; kept for compatibility, not used."),
    },
    "BGPPeerV1Beta1": {
        "spec": rule("The peer and the session with it."),
        "status": _NO_STATUS,
    },
    "BGPPeerSpecV1Beta1": {
        **_PEER_COMMON,
        "peerASN": rule("AS number expected of the peer.", required=True, **_ASN),
        "peerAddress": rule("Address of the peer.", required=True),
        "peerPort": rule("TCP port of the peer; 0 means 179.", **_PORT),
    },
    "NodeSelectorV1Beta1": {
        "matchLabels": rule("Labels that a node must carry, all of them."),
        "matchExpressions": rule("Expressions that must hold for a node's labels, all of them."),
    },
    "NodeSelectorRequirementV1Beta1": {
        "key": rule("Key of the label.", required=True),
        "operator": rule("In, NotIn, Exists or DoesNotExist.", required=True),
        "values": rule("Values to compare with.", required=True, minItems=1),
    },
    "BFDProfile": {
        "spec": rule("Settings of the sessions."),
        "status": _NO_STATUS,
    },
    "BFDProfileSpec": {
        "receiveInterval": rule(
            "Milliseconds between packets that we are ready to receive; 300 if absent.",
            **_MILLISECONDS,
        ),
        "transmitInterval": rule(
            "Milliseconds between packets that we would like to send; 300 if absent.",
            **_MILLISECONDS,
        ),
        "detectMultiplier": rule(
            "How many packets may be lost before the session is down; 3 if absent.",
            format="int32",
            minimum=2,
            maximum=255,
        ),
        "echoInterval": rule(
            "Milliseconds between echo packets that we can handle; 50 if absent.", **_MILLISECONDS
        ),
        "echoMode": rule("Whether to send echo packets. Not for multi-hop sessions."),
        "passiveMode": rule("Whether to wait for the peer to start the session."),
        "minimumTtl": rule(
            "Lowest TTL accepted in packets of multi-hop sessions.",
            format="int32",
            minimum=1,
            maximum=254,
        ),
    },
    "Community": {
        "spec": rule("Names and their values."),
        "status": _NO_STATUS,
    },
    "CommunitySpec": {
        "communities": rule("Names that advertisements may use in place of values."),
    },
    "CommunityAlias": {
        "name": rule("Name, unique among all Community objects."),
        "value": rule("Value: 65535:65282, large:64500:1:2 or extended:rt:64500:1."),
    },
    "ServiceL2Status": {
        "spec": _NO_SPEC,
        "status": rule("Which node answers for the service."),
    },
    "ServiceL2StatusStatus": {
        "node": _STATUS_NODE,
        "serviceName": _STATUS_SERVICE,
        "serviceNamespace": _STATUS_NAMESPACE,
        "interfaces": rule("Interfaces on which the node answers; absent means all."),
    },
    "InterfaceInfo": {"name": rule("Name of the interface.")},
    "ServiceBGPStatus": {
        "spec": _NO_SPEC,
        "status": rule("To which peers a node announces the service."),
    },
    "ServiceBGPStatusStatus": {
        "node": _STATUS_NODE,
        "serviceName": _STATUS_SERVICE,
        "serviceNamespace": _STATUS_NAMESPACE,
        "peers": rule("Names of the BGPPeers, sorted."),
    },
    "ConfigurationState": {"status": rule("What a component thinks of the configuration.")},
    "ConfigurationStateStatus": {
        "result": rule(
            "Whether the configuration is accepted.", enum=["Valid", "Invalid", "Unknown"]
        ),
        "errorSummary": rule("What is wrong, one problem per line."),
        "conditions": rule(
            "Results of the single checks.",
            x_kubernetes_list_type="map",
            x_kubernetes_list_map_keys=["type"],
        ),
    },
    "BGPSession": {"status": rule("How the session stands.")},
    "BGPSessionStatus": {
        "node": rule("Node whose session it is."),
        "peer": rule("Name of the BGPPeer."),
        "vrf": rule("VRF in which the session runs; absent: the default one."),
        "state": rule(
            "State of the session in the words of RFC 4271, such as Established; Unknown while FRR "
            "does not answer."
        ),
        "since": rule("Since when it is in this state.", format="date-time"),
        "localAddress": rule("Address of this node on the session."),
        "remoteAddress": rule("Address of the peer on the session."),
        "remoteASN": rule("AS number that the peer has shown.", **_INT64),
        "localRouterID": rule("BGP identifier of this node."),
        "remoteRouterID": rule("BGP identifier of the peer."),
        "holdTime": rule("Agreed hold time in milliseconds; 0: none.", **_INT64),
        "keepaliveTime": rule("Time between our keepalives in milliseconds.", **_INT64),
        "families": rule("Address families of the session."),
        "capabilities": rule("What was offered and agreed on."),
        "prefixes": rule("Counts of prefixes; they may lag by a minute."),
        "bfd": rule("How BFD sees the path to the peer; absent where BFD is not used."),
        "lastError": rule("Why there is no session now, or why the last one ended."),
        "notificationSent": rule("The last NOTIFICATION to the peer."),
        "notificationReceived": rule("The last NOTIFICATION of the peer."),
        "established": rule("How often the session came up.", **_INT64),
        "flaps": rule("How often it was lost again.", **_INT64),
        "timeToEstablished": rule(
            "Milliseconds from the first attempt until the session came up the last time.", **_INT64
        ),
    },
    "SessionEvent": {
        "text": rule("What happened."),
        "time": rule("When it happened last.", format="date-time"),
    },
    "SessionFamily": {
        "family": rule("Name of the family, such as ipv4-unicast."),
        "sent": rule("Whether routes of the family are sent."),
        "nextHop": rule("Next hop that routes carry."),
        "reason": rule("Why none are sent."),
    },
    "SessionPrefixes": {
        "announced": rule("Prefixes that the peer was told.", **_INT64),
        "pending": rule("Prefixes that the peer is still to be told.", **_INT64),
        "refused": rule("Prefixes that cannot be told over this session.", **_INT64),
        "received": rule("Prefixes that the peer announces; none is used.", **_INT64),
        "nearLimit": rule("Whether the received ones come near the limit that ends the session."),
    },
    "SessionCapabilities": {
        "ours": rule("What this node offered."),
        "peer": rule("What the peer offered."),
        "agreed": rule("What is in effect."),
    },
    "SessionBFD": {
        "state": rule("up, init, down, or admin-down."),
        "diagnostic": rule("Why it came into this state."),
        "lastDown": rule("Why the path was last lost."),
        "transmitInterval": rule("Milliseconds between our packets.", **_INT64),
        "receiveInterval": rule("Milliseconds between packets of the peer.", **_INT64),
        "detectionTime": rule("Milliseconds of silence that mean down.", **_INT64),
    },
    "EmptySpec": {},
    "EmptyStatus": {},
}
"""Rows of the kinds that Clarion defines."""

META: dict[str, dict[str, Rule]] = {
    "LabelSelector": {
        "matchLabels": rule("Labels that must be carried, all of them."),
        "matchExpressions": rule("Expressions that must hold, all of them.", **_ATOMIC_LIST),
    },
    "LabelSelectorRequirement": {
        "key": rule("Key of the label.", required=True),
        "operator": rule(
            "In and NotIn compare with values; Exists and DoesNotExist take none.", required=True
        ),
        "values": rule("Values to compare with.", **_ATOMIC_LIST),
    },
    "Condition": {
        "type": rule("What is stated.", required=True, maxLength=316),
        "status": rule("Whether it holds.", required=True, enum=["True", "False", "Unknown"]),
        "observedGeneration": rule(
            "Generation of the object for which it was stated.", minimum=0, **_INT64
        ),
        "lastTransitionTime": rule(
            "When the status last changed.", required=True, format="date-time"
        ),
        "reason": rule(
            "One word for the cause.",
            required=True,
            minLength=1,
            maxLength=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        ),
        "message": rule("The cause in words.", required=True, maxLength=32768),
    },
}
"""Rows of the types that all kinds share and that custom resources hold."""

STRUCT_KEYWORDS: dict[str, Keywords] = {
    "LabelSelector": {"x-kubernetes-map-type": "atomic"},
}
"""Keywords of every place where a struct is used."""
