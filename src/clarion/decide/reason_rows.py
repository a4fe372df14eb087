"""The reasons of decisions, chapter by chapter: addresses, nodes, layer 2, BGP."""

from typing import Literal

import msgspec

Verdict = Literal["yes", "no", "note"]


class ReasonRow(msgspec.Struct, frozen=True):
    """One kind of reason.

    Attributes:
        verdict: `yes` speaks for what was asked, `no` against it, `note` adds a circumstance.
        cause: When it arises, in general.
        remedy: What to change if it is not wanted.
    """

    code: str
    verdict: Verdict
    text: str
    cause: str
    remedy: str = ""


def yes(code: str, text: str, cause: str, remedy: str = "") -> ReasonRow:
    """A reason that speaks for what was asked."""
    return ReasonRow(code, "yes", text, cause, remedy)


def no(code: str, text: str, cause: str, remedy: str) -> ReasonRow:
    """A reason against it, with what to change."""
    return ReasonRow(code, "no", text, cause, remedy)


def note(code: str, text: str, cause: str, remedy: str = "") -> ReasonRow:
    """A circumstance."""
    return ReasonRow(code, "note", text, cause, remedy)


ALLOCATION = (
    yes("address-kept", "keeps {addresses} of pool {pool}", "The service has valid addresses."),
    yes("address-assigned", "gets {addresses} of pool {pool}", "A new assignment."),
    yes(
        "address-added",
        "gets {address} in addition, of the same pool {pool}",
        "ipFamilyPolicy is PreferDualStack and the service had one address.",
    ),
    yes(
        "request-granted",
        "it asks for {addresses}",
        "The loadBalancerIPs annotation or spec.loadBalancerIP names addresses.",
    ),
    yes(
        "pool-asked-for",
        "it asks for pool {pool}",
        "The address-pool annotation names a pool.",
    ),
    yes(
        "pool-reserved",
        "pool {pool} is reserved for services like this one",
        "The pool's serviceAllocation fits the service, so it comes before general pools.",
    ),
    yes(
        "pool-general",
        "pool {pool} serves everyone",
        "The first pool, by name, with autoAssign and without serviceAllocation that has room.",
    ),
    note(
        "address-shared",
        "others may share {address} under key {key}",
        "The service has an allow-shared-ip annotation.",
    ),
    no(
        "not-load-balancer",
        "its type is {type}",
        "Only services of type LoadBalancer get addresses.",
        "set spec.type: LoadBalancer",
    ),
    no(
        "class-not-ours",
        "its loadBalancerClass is {class_}, and ours is {ours}",
        "Another load balancer is asked for, or this one handles one class only.",
        "set spec.loadBalancerClass, or the flag --lb-class",
    ),
    no(
        "no-cluster-ip",
        "it has no cluster IP",
        "The cluster has not given one yet, or the service is headless.",
        "remove clusterIP: None from the service",
    ),
    no(
        "cluster-ips-invalid",
        "its cluster IPs {addresses} are no valid pair of families",
        "spec.clusterIPs does not hold one address, or one of each family.",
        "correct spec.clusterIPs",
    ),
    no(
        "not-enough-cluster-ips",
        "it requires two families but has only one cluster IP",
        "ipFamilyPolicy is RequireDualStack and the cluster gave one address.",
        "use PreferDualStack, or enable dual stack in the cluster",
    ),
    no(
        "no-pools",
        "there is no valid pool",
        "No IPAddressPool exists, or all have errors.",
        "create an IPAddressPool",
    ),
    no(
        "status-unreadable",
        "its status holds {addresses}, which is no valid set of addresses",
        "Something else wrote the status of the service.",
        "nothing: the status is replaced",
    ),
    note(
        "status-behind",
        "its status still holds {written}: the controller has not written this yet",
        "What was decided from the objects is not yet in the service.",
    ),
    no(
        "family-changed",
        "its addresses {addresses} do not fit its families ({families})",
        "The families of the service changed.",
        "nothing: it gets other addresses",
    ),
    no(
        "address-in-no-pool",
        "{address} is in no pool",
        "No valid pool contains the address; the pool may have shrunk or been deleted.",
        "add the address to a pool",
    ),
    no(
        "address-of-lost-pool",
        "{address} is in no valid pool, but a pool that has errors may contain it: it stays",
        "The program started while an IPAddressPool had errors: no last good version exists.",
        "correct the pool",
    ),
    no(
        "address-buggy",
        "{address} ends in .0 or .255, which pool {pool} avoids",
        "The pool sets avoidBuggyIPs.",
        "choose another address, or remove avoidBuggyIPs",
    ),
    no(
        "addresses-of-two-pools",
        "its addresses belong to two pools, {one} and {two}",
        "All addresses of a service come from one pool.",
        "ask for addresses of one pool, or put both families into one pool",
    ),
    no(
        "pool-for-other-namespaces",
        "pool {pool} is not for namespace {namespace}",
        "serviceAllocation of the pool names or selects other namespaces.",
        "add the namespace to serviceAllocation of the pool",
    ),
    no(
        "pool-for-other-services",
        "no service selector of pool {pool} matches the labels",
        "serviceAllocation of the pool selects other services.",
        "change the labels of the service, or the selectors of the pool",
    ),
    no(
        "pool-not-automatic",
        "pool {pool} is given only on request",
        "The pool sets autoAssign: false.",
        "ask for it with annotation metallb.io/address-pool: {pool}",
    ),
    no(
        "pool-unknown",
        "it asks for pool {pool}, which does not exist",
        "The address-pool annotation names no valid pool.",
        "correct the annotation, or create the pool",
    ),
    no(
        "pool-other-asked-for",
        "it asks for pool {wanted}, but its addresses are of pool {pool}",
        "The address-pool annotation and the addresses disagree.",
        "remove one of the two requests",
    ),
    no(
        "pool-without-family",
        "pool {pool} has no IPv{family} addresses",
        "The service needs a family that the pool lacks.",
        "add addresses of that family to the pool",
    ),
    no(
        "pool-exhausted",
        "all {capacity} IPv{family} addresses of pool {pool} are in use",
        "Every address is held, and none can be shared with this service.",
        "extend the pool, or delete services that are not needed",
    ),
    no(
        "pool-exhausted-but-reserved",
        "all {open} IPv{family} addresses of pool {pool} that are given automatically are in use; "
        "{reserved} more are reserved",
        "The pool's annotation clarion.metallb.io/reserved keeps addresses for requests.",
        "ask for a reserved address, reserve fewer, or extend the pool",
    ),
    no(
        "pool-resting",
        "no IPv{family} address of pool {pool} is free: released ones rest for {time}",
        "The pool's annotation clarion.metallb.io/hold-down keeps released addresses from others.",
        "wait, shorten the hold-down, or extend the pool",
    ),
    no(
        "address-resting",
        "{address} was given back by {service} less than {time} ago",
        "The pool has a hold-down, and another service had the address.",
        "wait, or ask for another address",
    ),
    no(
        "request-differs",
        "it asks for {wanted}, but has {addresses}",
        "The requested addresses changed.",
        "nothing: it gets what it asks for, if that is free",
    ),
    no(
        "request-twice",
        "both the loadBalancerIPs annotation and spec.loadBalancerIP are set",
        "Two requests; neither is followed.",
        "remove spec.loadBalancerIP, which is deprecated",
    ),
    no(
        "request-invalid",
        "the request {text} cannot be read: {fault}",
        "A requested address is not an IP address.",
        "write one address, or one of each family, separated by a comma",
    ),
    no(
        "request-family",
        "the requested {addresses} do not fit its families ({families})",
        "A request names exactly one address of each family of the service.",
        "ask for one address of each family",
    ),
    no(
        "address-held",
        "{address} is held by {service}",
        "Another service has the address and they do not share.",
        "give both the same allow-shared-ip annotation, or ask for another address",
    ),
    no(
        "sharing-key-differs",
        "{address} is held by {service} under sharing key {key}, not {wanted}",
        "Services share an address only when their sharing keys are equal.",
        "use the same value of allow-shared-ip",
    ),
    no(
        "sharing-backend-differs",
        "{address} is held by {service}, whose traffic policy or selector differs",
        "Services with externalTrafficPolicy Local share only if they select the same pods.",
        "use externalTrafficPolicy: Cluster, or equal selectors",
    ),
    no(
        "sharing-port-taken",
        "port {port} of {address} is taken by {service}",
        "Services on one address need different ports.",
        "use another port or address",
    ),
    note(
        "second-family-missing",
        "no IPv{family} address in addition: {why}",
        "ipFamilyPolicy is PreferDualStack, and only one family could be given.",
        "extend pool {pool} with addresses of that family",
    ),
)

NODES = (
    no(
        "node-not-selected",
        "no advertisement for the service selects the node",
        "nodeSelectors of the advertisements match other nodes.",
        "change the node's labels or the node selectors",
    ),
    no(
        "node-without-speaker",
        "no live speaker runs on it",
        "The node's speaker does not run, or was not heard of in time.",
        "check the speaker on that node",
    ),
    no(
        "node-not-ready",
        "it is not Ready",
        "The node's condition Ready is False or Unknown.",
        "check the node's kubelet",
    ),
    no(
        "node-network-unavailable",
        "its network is unavailable",
        "The node's condition NetworkUnavailable is True.",
        "check the network plugin on that node",
    ),
    no(
        "node-excluded",
        "it is excluded from load balancers by its label",
        "The label node.kubernetes.io/exclude-from-external-load-balancers is present.",
        "remove the label, or start with --ignore-exclude-lb",
    ),
    note(
        "node-cordoned",
        "it is cordoned: its routes carry GRACEFUL_SHUTDOWN and are the last choice",
        "The node is unschedulable, and speakers run with --bgp-graceful-shutdown (RFC 8326).",
        "kubectl uncordon, when it is to take traffic again",
    ),
    note(
        "node-stopping",
        "its speaker stops: its routes carry GRACEFUL_SHUTDOWN and are the last choice",
        "The speaker was asked to stop, and runs with --bgp-graceful-shutdown (RFC 8326).",
    ),
    no(
        "node-without-local-endpoint",
        "it hosts no endpoint that can serve, and the traffic policy is Local",
        "externalTrafficPolicy is Local.",
        "run a backend there, or use externalTrafficPolicy: Cluster",
    ),
    no(
        "node-without-interface",
        "it has none of the interfaces {interfaces}",
        "The advertisement names interfaces, and --l2-require-interface is set.",
        "correct the interfaces of the advertisement, or its node selectors",
    ),
    no(
        "no-endpoints",
        "none of its {seen} endpoints can serve",
        "No backend is ready; announcing would attract traffic to nothing.",
        "check the pods that the service selects",
    ),
    note(
        "endpoints-assumed",
        "endpoints on every node are assumed",
        "The plan is made from manifests without EndpointSlices.",
    ),
    no(
        "no-address",
        "it has no address",
        "Nothing is announced before an address is given.",
        "ask why: clarion explain service {service}",
    ),
    no(
        "no-common-pool",
        "its addresses {addresses} are not all in one pool",
        "The configuration no longer has the addresses; the controller will replace them.",
        "add the addresses to a pool",
    ),
)

L2 = (
    yes(
        "l2-owner",
        "{node} answers for {addresses} on {interfaces}",
        "It comes first among the candidates: highest preference, then hash of node and address.",
    ),
    yes(
        "l2-incumbent",
        "{node} stays the owner",
        "The present owner keeps an address while no candidate is preferred to it.",
    ),
    no(
        "l2-not-first",
        "{owner} comes before it",
        "One node answers for an address at a time.",
        "prefer the node with preferredNodeSelectors",
    ),
    no(
        "l2-no-advertisement",
        "no L2Advertisement selects pool {pool}",
        "The pool is not announced on the segment.",
        "create an L2Advertisement that selects the pool",
    ),
    no(
        "l2-other-services",
        "serviceSelectors of L2Advertisement {advertisement} do not match the service",
        "The advertisement is for other services.",
        "change the labels of the service, or the selectors",
    ),
    no(
        "l2-sharing-with-service-selectors",
        "it may share its address, and L2Advertisement {advertisement} has serviceSelectors",
        "Which node answers would depend on which of the sharing services is asked.",
        "remove allow-shared-ip, or the serviceSelectors",
    ),
    no(
        "l2-no-candidate",
        "no node can answer for it",
        "Every node is ruled out; each has its reason.",
        "change for one node what rules it out",
    ),
    no(
        "l2-owner-without-interface",
        "{node} is chosen, but has none of the interfaces {interfaces}, so nobody answers",
        "Interfaces do not take part in the choice of the node.",
        "start with --l2-require-interface, or select the nodes that have the interface",
    ),
    no(
        "l2-no-interface",
        "{node} has no interface on which it could answer",
        "The node's speaker reports no interface that is up, speaks Ethernet and is not excluded.",
        "look at the links of the node, and at --l2-exclude-interface of its speaker",
    ),
    no(
        "l2-interface-not-named",
        "L2Advertisement {advertisement} answers on {interfaces}, not on {interface}",
        "The advertisement names interfaces, and this one is not among them.",
        "add the interface to the advertisement",
    ),
    no(
        "l2-interface-absent",
        "L2Advertisement {advertisement} names {interfaces}, but {node} does not have it",
        "The owner of the address lacks an interface that the advertisement names.",
        "correct the interfaces of the advertisement, or select nodes that have it",
    ),
)

BGP = (
    yes(
        "bgp-announced",
        "announced with BGPAdvertisement {advertisement}",
        "The advertisement covers pool, service and node.",
    ),
    note(
        "bgp-aggregated",
        "{address} is announced as part of {prefix}",
        "The aggregation length is shorter than the address.",
    ),
    no(
        "bgp-no-advertisement",
        "no BGPAdvertisement selects pool {pool}",
        "The pool is not announced by BGP.",
        "create a BGPAdvertisement that selects the pool",
    ),
    no(
        "bgp-other-services",
        "serviceSelectors of BGPAdvertisement {advertisement} do not match the service",
        "The advertisement is for other services.",
        "change the labels of the service, or the selectors",
    ),
    no(
        "bgp-local-pref-conflict",
        "{one} and {two} give the same route different local preferences",
        "Two advertisements match the service on one node and disagree.",
        "use one local preference, other lengths, peers or nodes",
    ),
    note(
        "bgp-local-pref-highest",
        "{prefix} is announced with local preference {value}, the highest of {values}",
        "Services with one aggregate are announced with different local preferences.",
        "use one local preference for the aggregate",
    ),
    note(
        "bgp-weighted",
        "{prefix} has weight {weight}, the ready endpoints here: {shares}",
        "The advertisement asks for weights; routers share traffic by the link bandwidth.",
    ),
    note(
        "bgp-weight-missing",
        "{prefix} has no weight: {services} have none",
        "A route tells a weight only if all its services have one, else traffic would be shared by "
        "the endpoints of some.",
        "give all of them externalTrafficPolicy: Local and a weighted advertisement",
    ),
    note(
        "bgp-weight-not-local",
        "no weight by BGPAdvertisement {advertisement}: the traffic policy is Cluster",
        "With externalTrafficPolicy Cluster every node sends to all endpoints: all weigh the same.",
        "use externalTrafficPolicy: Local, or remove the link-bandwidth annotation",
    ),
    note(
        "bgp-weight-unknown",
        "weights by BGPAdvertisement {advertisement} follow from endpoints, and none are given",
        "The plan is made from manifests without EndpointSlices.",
    ),
    no(
        "peer-not-on-node",
        "peer {peer} does not run on {node}",
        "nodeSelectors of the peer match other nodes.",
        "change the node's labels or the node selectors of the peer",
    ),
    no(
        "peer-not-told",
        "peer {peer} is not among the peers of BGPAdvertisement {advertisement}",
        "The advertisement names other peers.",
        "add the peer to the advertisement",
    ),
    no(
        "peer-not-supported",
        "peer {peer} needs {fields}, which this back end does not have",
        "The back end lacks something without which the session cannot run.",
        "use another back end",
    ),
    no(
        "peer-without-family",
        "peer {peer} does not carry IPv{family} routes",
        "FRR carries the family of the session's transport only.",
        "set dualStackAddressFamily: true",
    ),
    no(
        "no-peers",
        "there is no BGPPeer",
        "Without a peer nobody hears the routes.",
        "create a BGPPeer",
    ),
)
