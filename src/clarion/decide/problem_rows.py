"""Every kind of problem: a registry of codes, what each says, and what to do about it."""

from typing import Literal

import msgspec

from clarion.decide.registry import index

Severity = Literal["error", "warning"]


class ProblemRow(msgspec.Struct, frozen=True):
    """One kind of problem: what it says and what to do about it."""

    code: str
    severity: Severity
    text: str
    remedy: str
    transient: bool = False


def _error(code: str, text: str, remedy: str) -> ProblemRow:
    return ProblemRow(code, "error", text, remedy)


def _awaits(code: str, text: str, remedy: str) -> ProblemRow:
    return ProblemRow(code, "error", text, remedy, transient=True)


def _warning(code: str, text: str, remedy: str) -> ProblemRow:
    return ProblemRow(code, "warning", text, remedy)


_ANY = (
    _error("name-missing", "the object has no name", "set metadata.name"),
    _error(
        "name-taken",
        "{other} has the same name",
        "rename or delete one of the two: names are global to the configuration",
    ),
    _error(
        "wrong-namespace",
        "configuration in namespace {namespace} is not read",
        "create it in namespace {wanted}",
    ),
    _error("selector-invalid", "{fault}", "correct the selector"),
    _error("duplicate-entry", "{value} stands twice", "remove one of the two"),
    _warning(
        "last-good-kept",
        "the last valid version of this object stays in force",
        "correct the object; the change takes effect once it is valid",
    ),
    _warning(
        "namespace-unknown",
        "no namespace is named {name}{hint}",
        "create the namespace or correct the name",
    ),
    _warning(
        "selector-selects-nothing",
        "no {what} matches {selector}",
        "correct the selector or the labels",
    ),
    _warning(
        "annotation-unknown",
        "no annotation named {key} is read{hint}",
        "correct the key, or remove it",
    ),
    _warning(
        "annotation-without-effect",
        "annotation {key} is read of {kinds}, not of {kind}",
        "write it on the right object, or remove it",
    ),
)

_POOLS = (
    _error("pool-empty", "the pool has no addresses", "list a prefix or a range"),
    _error(
        "address-invalid",
        "{fault}",
        "write a prefix (192.0.2.0/24) or a range (192.0.2.10-192.0.2.20)",
    ),
    _error(
        "pool-overlap",
        "{range} overlaps {other_range} of {other}",
        "take the shared addresses out of one of the two",
    ),
    _error(
        "pool-overlaps-itself",
        "{range} overlaps {other_range} of the same pool",
        "remove one of the two entries",
    ),
    _warning(
        "pool-unusable",
        "{entry} contains addresses of {block} ({what}): {effect}",
        "take {block} out of the pool",
    ),
    _warning(
        "pool-all-avoided",
        "avoidBuggyIPs avoids every IPv4 address of the pool",
        "add addresses that do not end in .0 or .255, or remove avoidBuggyIPs",
    ),
    _error(
        "reserved-invalid",
        "{fault}",
        "list addresses, prefixes or ranges, separated by commas: 192.0.2.1, 192.0.2.8/30",
    ),
    _warning(
        "reserved-outside-pool",
        "{entry} is reserved, but not entirely inside the pool",
        "correct the entry, or the addresses of the pool",
    ),
    _error(
        "hold-down-invalid",
        "{fault}",
        "write how long released addresses rest, for example 10m",
    ),
    _warning(
        "pool-not-advertised",
        "no advertisement selects this pool: its addresses are given out but not announced",
        "create an L2Advertisement or a BGPAdvertisement that selects {name}",
    ),
    _warning(
        "pool-overlaps-nodes",
        "{entry} contains addresses of the nodes {others}",
        "take the nodes' own addresses out of the pool: who gets one cuts the node off",
    ),
    _warning(
        "pool-overlaps-pods",
        "{entry} overlaps the pod networks of the nodes {others}",
        "use addresses outside the pod network: pods would not reach the service",
    ),
    _warning(
        "pool-overlaps-services",
        "{entry} contains the cluster IPs of the services {others}",
        "use addresses outside the service network of the cluster",
    ),
    _warning(
        "services-wait",
        "{who} for an IPv{family} address, {assigned} of {capacity} are in use "
        "({share} %), {reserved} reserved, {resting} resting: {services}",
        "extend the pool, delete services that are not needed, or reserve fewer addresses",
    ),
)

_COMMUNITIES = (
    _error(
        "community-invalid",
        "{fault}",
        "write 65000:100 (two numbers up to 65535), large:65000:1:2 (three up to 4294967295), "
        "extended:rt:65000:1 or extended:soo:65000:1",
    ),
    _error(
        "alias-taken",
        "alias {alias} is defined in {other} already",
        "rename one of the two: aliases are global",
    ),
    _error("alias-empty", "the alias has no name", "give it a name"),
    _warning(
        "alias-hides-well-known",
        "alias {alias} replaces the well-known community of that name ({known})",
        "choose another name unless that is what you want",
    ),
    _awaits(
        "alias-unknown",
        "{alias} is neither a community nor an alias{hint}",
        "define it in a Community object or write the number",
    ),
    _error(
        "too-many-communities",
        "{count} communities on one advertisement, more than {limit}",
        "remove some",
    ),
)

_ADVERTISEMENTS = (
    _error(
        "aggregation-out-of-range",
        "aggregation length {length} is not between {least} and {most}",
        "use a length up to {most}; {most} announces every address by itself",
    ),
    _error(
        "aggregation-too-short",
        "aggregation length {length} is shorter than /{largest}, the largest prefix of {entry} "
        "in {pool}: the route would claim addresses that are not in the pool",
        "use {largest} or more",
    ),
    _warning(
        "aggregate-beyond-pool",
        "/{length} routes of pool {pool} also cover addresses outside it: {entry} is not "
        "aligned to /{length}",
        "align the pool to /{length} or use a longer aggregation length",
    ),
    _error(
        "aggregation-with-service-selectors",
        "serviceSelectors need aggregation lengths 32 and 128: an aggregate covers other "
        "services too",
        "remove the aggregation length or the service selectors",
    ),
    _error(
        "local-pref-range",
        "local preference {value} is not between 0 and 4294967295",
        "use a number in that range",
    ),
    _error(
        "local-pref-conflict",
        "for pool {pool} it sends the same route with local preference {value} as {other} does "
        "with {other_value}, to a common peer from a common node",
        "use one local preference, other peers or other nodes",
    ),
    _error(
        "link-bandwidth-invalid",
        "link bandwidth {value} is not known",
        "write endpoints, or remove the annotation",
    ),
    _error(
        "preference-weight",
        "weight {weight} is not between 1 and 100",
        "use a weight from 1 to 100",
    ),
    _warning(
        "pool-unknown",
        "no pool is named {name}{hint}",
        "create the pool or correct the name",
    ),
    _warning(
        "peer-unknown",
        "no BGPPeer is named {name}{hint}",
        "create the peer or correct the name",
    ),
    _warning(
        "interface-unknown",
        "no node has an interface named {name}{hint}",
        "correct the name; interface names are exact, without wildcards",
    ),
    _warning(
        "interface-name-invalid",
        "no interface of Linux has the name {name}: {fault}",
        "write exact names, such as eth0; there are no wildcards",
    ),
    _warning(
        "advertisement-without-pool",
        "it selects no pool, so it announces nothing",
        "name a pool in ipAddressPools or match one with ipAddressPoolSelectors",
    ),
    _warning(
        "advertisement-without-peer",
        "there is no BGPPeer, so nobody hears it",
        "create a BGPPeer",
    ),
    _warning(
        "advertisement-peer-elsewhere",
        "no node that it covers has a session with {peer}",
        "let the node selectors of both match a common node",
    ),
    _warning(
        "advertisement-without-service",
        "no service of type LoadBalancer matches its serviceSelectors, so it never applies",
        "correct the selectors or the labels of the services",
    ),
    _warning(
        "advertisement-only-excluded-nodes",
        "every node that it covers is excluded from load balancers by its label: {nodes}",
        "remove the label, cover other nodes, or start with --ignore-exclude-lb",
    ),
    _warning(
        "nodes-without-interfaces",
        "nodes {nodes} have none of the interfaces {interfaces}: if one of them is chosen, "
        "nobody answers",
        "select the nodes that have the interface, or start with --l2-require-interface",
    ),
)

_PEERS = (
    _error("asn-missing", "myASN is 0", "set myASN to your autonomous system number"),
    _error(
        "asn-range",
        "{field} {value} is not between 0 and 4294967295",
        "use a number of 32 bits",
    ),
    _warning(
        "asn-reserved",
        "{field} {value} is reserved ({source}): routers refuse it",
        "use the number that your registry gave you, or a private one: 64512 to 65534",
    ),
    _error(
        "peer-asn-missing",
        "neither peerASN nor dynamicASN is set",
        "set one of the two",
    ),
    _error("peer-asn-twice", "both peerASN and dynamicASN are set", "keep one of the two"),
    _error(
        "dynamic-asn-invalid",
        "dynamicASN {value} is neither internal nor external",
        "write internal or external",
    ),
    _error(
        "multihop-internal",
        "ebgpMultiHop is set, but both sides are in AS {asn}",
        "remove ebgpMultiHop: it is for external peers only",
    ),
    _warning(
        "local-asn-internal",
        "localASN has no effect, as both sides are in one AS: the session uses myASN",
        "remove localASN: it is for external peers only",
    ),
    _error(
        "local-asn-of-peer",
        "localASN {value} is the peer's: the session would be neither external nor internal",
        "write another number, or set myASN to the peer's",
    ),
    _error(
        "ttl-security-multihop",
        "ebgpMultiHop and a limit of {hops} hops (RFC 5082) exclude one another",
        "remove ebgpMultiHop: the limit alone lets the peer be so far away",
    ),
    _error(
        "annotation-number",
        "{value} in {key} is not a number from 1 to {most}",
        'write a number in quotes, such as "1"',
    ),
    _error(
        "peer-address-missing",
        "neither peerAddress nor interface is set",
        "set one of the two",
    ),
    _error(
        "peer-address-twice",
        "both peerAddress and interface are set",
        "keep one of the two",
    ),
    _error("ip-invalid", "{fault}", "write one IPv4 or IPv6 address"),
    _warning(
        "peer-address-unusable",
        "no session can be opened to {address}: it is {what}",
        "write the address of the router",
    ),
    _warning(
        "peer-inside-pool",
        "{address} lies in {entry} of {other}: the service that gets it cuts the session",
        "take the router's address out of the pool",
    ),
    _warning(
        "peer-twice",
        "{target} port {port} is the peer of {other} too, and both run on one node",
        "remove one of the two: a router keeps one session with a node (RFC 4271 §6.8)",
    ),
    _warning(
        "source-address-family",
        "sourceAddress {source} and peerAddress {address} are of different IP versions: the "
        "session cannot be opened",
        "write an address of the same IP version, or remove sourceAddress",
    ),
    _error(
        "router-id-not-ipv4",
        "router ID {value} is not an IPv4 address",
        "write the router ID in the form of an IPv4 address (RFC 6286: 32 bits)",
    ),
    _warning(
        "router-id-zero",
        "router ID 0.0.0.0 is refused by routers",
        "write an IPv4 address of the node, or remove it (RFC 6286 §2.1: not zero)",
    ),
    _warning(
        "router-id-shared",
        "nodes {nodes} all run this peer, with the one router ID {value}",
        "remove it, or write a peer for each node (RFC 6286 §2.1: unique within an AS)",
    ),
    _error("peer-port-range", "port {port} is not between 1 and 65535", "use a valid port"),
    _error("duration-invalid", "{fault}", "write for example 3s or 1m30s"),
    _error(
        "hold-time-range",
        "hold time {value} is neither 0 nor from 3 to 65535 seconds",
        "use 0 (no keepalives) or 3s and more (RFC 4271 §4.2)",
    ),
    _error(
        "keepalive-above-hold",
        "keepalive time {keepalive} is longer than hold time {hold}",
        "use a third of the hold time",
    ),
    _warning(
        "keepalive-above-third",
        "keepalive time {keepalive} is more than a third of hold time {hold}: one lost message may "
        "end the session",
        "use a third of the hold time (RFC 4271 §4.4)",
    ),
    _error(
        "connect-time-range",
        "connect time {value} is not a whole number of seconds from 1 to 65535",
        "write for example 10s",
    ),
    _error(
        "password-twice",
        "both password and passwordSecret are set",
        "keep one of the two",
    ),
    _error(
        "password-too-long",
        "the password has {octets} octets, and TCP MD5 takes {most} at most",
        "use a shorter one on both sides",
    ),
    _awaits(
        "secret-missing",
        "Secret {name} does not exist in namespace {namespace}",
        "create it with type kubernetes.io/basic-auth and a key password",
    ),
    _warning(
        "secret-not-given",
        "Secret {name} of namespace {namespace} is not among the objects given",
        "nothing, if it is created elsewhere; its type must be kubernetes.io/basic-auth",
    ),
    _error(
        "secret-type",
        "Secret {name} has type {type}",
        "its type must be kubernetes.io/basic-auth",
    ),
    _error(
        "secret-without-password",
        "Secret {name} has no key password",
        "add the key password to it",
    ),
    _warning(
        "passive-invalid",
        "{value} is neither true nor false, and counts as false",
        "write true or false, in quotes",
    ),
    _awaits(
        "bfd-profile-missing",
        "no BFDProfile is named {name}{hint}",
        "create the profile or correct the name",
    ),
    _warning(
        "field-deprecated",
        "{field} is deprecated and has no effect",
        "remove it",
    ),
    _warning(
        "version-deprecated",
        "version v1beta1 of BGPPeer is deprecated",
        "write apiVersion: metallb.io/v1beta2",
    ),
    _warning(
        "back-end-lacks",
        "the back end {backend} does not honour {field}: {effect}",
        "use another back end if you need it: docs/bgp.md says which have it",
    ),
    _error(
        "router-id-conflict",
        "router ID {value} differs from {other_value} of {other}, and both run on one node",
        "FRR has one router ID per router: use the same for both or separate their nodes",
    ),
    _error(
        "peer-target-conflict",
        "{target} is the neighbour of {other} too, and both run on one node",
        "FRR has one session per neighbour and VRF: remove one or separate their nodes",
    ),
    _error(
        "my-asn-conflict",
        "myASN {value} differs from {other_value} of {other}, and both run on one node",
        "FRR has one AS per VRF: use the same for both or separate their nodes",
    ),
    _error(
        "echo-with-ipv6",
        "its BFD profile {profile} has echo mode, and pool {pool} with IPv6 addresses is "
        "announced to it",
        "switch echo mode off for this peer: FRR has no BFD echo for IPv6",
    ),
    _error(
        "frr-cannot-hold",
        "FRR cannot take spaces or control characters in {field}",
        "leave them out, or use another back end",
    ),
    _error(
        "frr-refuses",
        "FRR refuses '{line}': {answer}",
        "ask for something else; all that FRR takes is in force, and it is asked again",
    ),
)

_BFD = (
    _error(
        "bfd-range",
        "{field} {value} is not between {least} and {most}",
        "use a number in that range",
    ),
)

_SERVICES = (
    _warning(
        "annotation-deprecated",
        "annotation {key} is deprecated",
        "write {new}",
    ),
    _warning(
        "load-balancer-ip-deprecated",
        "spec.loadBalancerIP is deprecated by Kubernetes and takes one address only",
        "use annotation metallb.io/loadBalancerIPs",
    ),
    _warning(
        "wanted-pool-unknown",
        "no pool is named {name}{hint}",
        "correct the annotation, or create the pool",
    ),
    _warning(
        "request-unreadable",
        "{why}",
        "{remedy}",
    ),
    _warning(
        "service-without-address",
        "it gets no address: {why}",
        "{remedy}",
    ),
    _warning(
        "service-not-announced",
        "it has {addresses}, but nobody announces them: {why}",
        "{remedy}",
    ),
)

_CLUSTER = (
    _warning(
        "no-nodes",
        "no Node objects are given: owners and routes, which are per node, cannot be shown",
        "add the nodes, for example the output of: kubectl get nodes -o yaml",
    ),
    _warning(
        "address-announced-twice",
        "nodes {nodes} both answer for {address}, which is shared by {services}",
        "give the services the same addresses in the same order",
    ),
)

CHAPTERS = (
    ("Any object", _ANY),
    ("Pools", _POOLS),
    ("Communities", _COMMUNITIES),
    ("Advertisements", _ADVERTISEMENTS),
    ("Peers", _PEERS),
    ("BFD profiles", _BFD),
    ("Services", _SERVICES),
    ("The cluster", _CLUSTER),
)
"""The rows as the manual shows them."""

PROBLEMS: dict[str, ProblemRow] = index([row for _, rows in CHAPTERS for row in rows])
"""Every kind of problem, by code."""
