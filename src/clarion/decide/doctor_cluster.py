"""Checks of one cluster: other announcers, definitions, webhooks, permissions, nodes, services."""

from collections.abc import Iterator
from typing import Final

import msgspec

from clarion.decide.announcers import METALLB_SPEAKER, by_image
from clarion.decide.doctor import Check, Judgement, Unread, failed, ok, skipped, warning
from clarion.decide.nodes import node_facts
from clarion.decide.plan import Plan, ServicePlan
from clarion.decide.registry import listed
from clarion.decide.snapshot import Snapshot
from clarion.model.annotations import (
    LABEL_SERVICE_NAME,
    LABEL_SERVICE_NAMESPACE,
    LABEL_SLICE_SERVICE,
)
from clarion.model.core import CustomResourceDefinition
from clarion.model.kinds import KINDS
from clarion.model.metallb import GROUP, ServiceL2Status

CLOCK_SECONDS: Final = 2.0
"""Differences of clocks below this are not seen: the API tells whole seconds."""


class PodFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod that runs or is about to."""

    namespace: str
    name: str
    node: str = ""
    images: tuple[str, ...] = ()


class WebhookFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook that the API asks about what Clarion reads or writes.

    Attributes:
        service: `namespace/name` of where it is; empty: an address outside the cluster.
        fails: What it is asked about is refused while it does not answer.
    """

    configuration: str
    name: str
    service: str = ""
    fails: bool = False


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Something that one of the programs, or `both`, must be allowed.

    Attributes:
        inside: In the programs' own namespace; else everywhere.
        name: Of the one object that it is about; empty: any.
    """

    program: str
    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    name: str = ""
    inside: bool = True

    def __str__(self) -> str:
        part = "/".join(filter(None, (self.resource, self.subresource)))
        return " ".join(filter(None, (f"{self.program}:", self.verb, part, self.name)))


class KubeProxy(msgspec.Struct, frozen=True):
    """What is configured of kube-proxy."""

    mode: str
    strict_arp: bool


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a cluster.

    Attributes:
        version: Of the API server.
        skew: Seconds by which the API's clock is ahead of ours.
        denied: What the credentials in use may not do of what the programs need.
        foreign: Configuration of other announcers, `kind name`.
        leftovers: FRRConfigurations that MetalLB's speakers wrote.
    """

    version: str
    snapshot: Snapshot
    plan: Plan
    skew: float | Unread
    pods: tuple[PodFacts, ...] | Unread = ()
    definitions: tuple[CustomResourceDefinition, ...] | Unread = ()
    webhooks: tuple[WebhookFacts, ...] | Unread = ()
    denied: tuple[Access, ...] | Unread = ()
    statuses: tuple[ServiceL2Status, ...] | Unread = ()
    kube_proxy: KubeProxy | Unread | None = None
    foreign: tuple[str, ...] | Unread = ()
    leftovers: tuple[str, ...] | Unread = ()


def _access(
    program: str,
    verbs: str,
    resources: str,
    group: str = "",
    *,
    name: str = "",
    inside: bool = True,
) -> Iterator[Access]:
    for text in resources.split():
        resource, _, part = text.partition("/")
        for verb in verbs.split():
            yield Access(
                program=program,
                verb=verb,
                resource=resource,
                group=group,
                subresource=part,
                name=name,
                inside=inside,
            )


_CONFIGURATION = (
    "bfdprofiles bgpadvertisements bgppeers communities ipaddresspools l2advertisements"
)
_STATE, _TOLD = "configurationstates", "servicebgpstatuses servicel2statuses"
_LEASES = "coordination.k8s.io"
NEEDED: Final[tuple[Access, ...]] = (
    *_access("both", "list watch", "namespaces nodes services", inside=False),
    *_access("both", "create patch", "events", inside=False),
    *_access("both", "list watch", _CONFIGURATION, GROUP),
    *_access("both", "list watch", "secrets"),
    *_access("both", "create", _STATE, GROUP),
    *_access("controller", "get", _STATE, GROUP, name="controller"),
    *_access("controller", "patch", f"{_STATE}/status", GROUP, name="controller"),
    *_access("controller", "patch", "services/status", inside=False),
    *_access("controller", "patch", "ipaddresspools/status", GROUP),
    *_access("controller", "create", "secrets"),
    *_access("controller", "create", "leases", _LEASES),
    *_access("controller", "get patch", "leases", _LEASES, name="clarion-controller"),
    *_access("speaker", "get", _STATE, GROUP),
    *_access("speaker", "patch", f"{_STATE}/status", GROUP),
    *_access("speaker", "list watch", "endpointslices", "discovery.k8s.io", inside=False),
    *_access("speaker", "list watch create delete", _TOLD, GROUP),
    *_access("speaker", "patch", "servicebgpstatuses/status servicel2statuses/status", GROUP),
    *_access("speaker", "list watch create patch delete", "leases", _LEASES),
)
"""What the programs cannot do without."""


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there is an API to ask.

    Attributes:
        version: Of the API server; empty: it was not reached.
        configured: False if nothing says where it is.
        error: Why it was not reached, or not read.
    """

    version: str = ""
    configured: bool = True
    error: str = ""


def _reached(found: Reached) -> Judgement:
    if not found.configured:
        return skipped(f"no cluster is configured: {found.error}")
    if found.error:
        return failed(found.error)
    return ok(f"answers, version {found.version}", version=found.version)


API_CHECKS: Final[tuple[Check[Reached], ...]] = (
    Check(
        "api",
        "cluster",
        "the Kubernetes API, as these credentials see it",
        "without it nothing is learnt; what was announced stays announced",
        "see `kubectl get --raw /readyz`",
        _reached,
    ),
)


# Other announcers.


def _announcers(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.pods, Unread):
        return facts.pods.skipped
    found: dict[str, list[PodFacts]] = {}
    remedies = {}
    rivals = False
    for pod in facts.pods:
        row = by_image(pod.images)
        if row:
            found.setdefault(row.name, []).append(pod)
            remedies[row.name] = row.remedy
            rivals = rivals or row.rival
    if not found:
        return ok("no Pod of another announcer")
    says = "; ".join(
        f"{name} on {listed([pod.node or 'no node' for pod in pods])}: {remedies[name]}"
        for name, pods in found.items()
    )
    told = {name: [f"{pod.namespace}/{pod.name}" for pod in pods] for name, pods in found.items()}
    return (failed if rivals else warning)(says, pods=told)


def _foreign(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.foreign, Unread):
        return facts.foreign.skipped
    if facts.foreign:
        return failed(f"{listed(facts.foreign)}", objects=list(facts.foreign))
    return ok("none")


def _leftovers(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.leftovers, Unread):
        return facts.leftovers.skipped
    told = {"objects": list(facts.leftovers)}
    if not facts.leftovers:
        return ok("none")
    if isinstance(facts.pods, Unread):
        return warning(f"{listed(facts.leftovers)}; {facts.pods.why}", **told)
    if any(by_image(pod.images) is METALLB_SPEAKER for pod in facts.pods):
        return ok("MetalLB's speakers still keep them", **told)
    return failed(f"{listed(facts.leftovers)}: frr-k8s announces what they hold", **told)


def _statuses(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.statuses, Unread):
        return facts.statuses.skipped
    owners: dict[str, set[str]] = {}
    foreign = []
    for item in facts.statuses:
        labels = item.metadata.labels
        service = f"{labels.get(LABEL_SERVICE_NAMESPACE)}/{labels.get(LABEL_SERVICE_NAME)}"
        owners.setdefault(service, set()).add(item.status.node if item.status else "")
        if any(owner.kind == "Pod" for owner in item.metadata.owner_references):
            foreign.append(item.name)
    several = {name: sorted(nodes) for name, nodes in owners.items() if len(nodes) > 1}
    told = {"several": several, "of_metallb": foreign}
    if several:
        texts = [f"{name} by {' and '.join(nodes)}" for name, nodes in sorted(several.items())]
        return failed(f"answered for twice: {listed(texts)}", **told)
    if foreign:
        return warning(f"{len(foreign)} written by speakers of MetalLB: {listed(foreign)}", **told)
    return ok(f"{len(owners)} services, one node each", **told)


# Definitions, webhooks, permissions.


def _definitions(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.definitions, Unread):
        return facts.definitions.skipped
    known = {item.name: item for item in facts.definitions}
    faults: list[str] = []
    notes: list[str] = []
    for kind in (row for row in KINDS if row.custom):
        name = f"{kind.plural}.{kind.group}"
        versions = {row.name: row for row in known[name].spec.versions} if name in known else {}
        found = versions.get(kind.version)
        if found is None or not found.served:
            # Without the kinds that are Clarion's alone it announces all the same, and tells less.
            missing = faults if kind.group == GROUP else notes
            missing.append(f"{name} is not served as {kind.version}")
        elif kind.stored and not found.storage:
            notes.append(f"{name} is not stored as {kind.version}")
    for item in facts.definitions:
        stored = {row.name for row in item.spec.versions if row.storage}
        old = [name for name in item.status.stored_versions if name not in stored]
        if old:
            notes.append(f"objects of {item.name} may be stored as {listed(old)}")
    if faults:
        return failed(listed(faults), faults=faults, notes=notes)
    if notes:
        return warning(listed(notes), notes=notes)
    return ok(f"{len(known)} definitions, versions as needed")


def _serving(snapshot: Snapshot) -> set[str]:
    """`namespace/name` of the services that have an endpoint that is ready."""
    return {
        f"{item.namespace}/{item.metadata.labels.get(LABEL_SLICE_SERVICE)}"
        for item in snapshot.endpoint_slices
        if any(each.conditions.ready is not False for each in item.endpoints)
    }


def _webhooks(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.webhooks, Unread):
        return facts.webhooks.skipped
    serving = _serving(facts.snapshot)
    dead = [item for item in facts.webhooks if item.service and item.service not in serving]
    told = {"without_endpoints": [f"{item.configuration}/{item.name}" for item in dead]}
    refusing = sorted({f"{i.configuration} asks {i.service}" for i in dead if i.fails})
    if refusing:
        says = f"{listed(refusing)}, which has no endpoints, and refuses without an answer"
        return failed(says, **told)
    if dead:
        return warning(
            f"not answered, and passed over: {listed(told['without_endpoints'])}", **told
        )
    return ok(f"{len(facts.webhooks)} webhooks are concerned, all have endpoints", **told)


def _permissions(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.denied, Unread):
        return facts.denied.skipped
    lacking = {item.program for item in facts.denied}
    texts = [str(item) for item in facts.denied]
    enough = [name for name in ("controller", "speaker") if not lacking & {name, "both"}]
    if not enough:
        return failed(f"these credentials may not: {listed(texts)}", denied=texts)
    return ok(f"enough for the {' and the '.join(enough)}", denied=texts)


def _clock(facts: ClusterFacts) -> Judgement:
    if isinstance(facts.skew, Unread):
        return facts.skew.skipped
    seconds = round(facts.skew, 1)
    if abs(facts.skew) > CLOCK_SECONDS:
        return warning(f"the API's clock is {seconds} s ahead of this one", seconds=seconds)
    return ok(f"within {CLOCK_SECONDS:g} s", seconds=seconds)


# Nodes.


def _nodes(facts: ClusterFacts) -> Judgement:
    against: dict[str, str] = {}
    for node in facts.snapshot.nodes:
        told = node_facts(node)
        if told.excluded:
            against[node.name] = "label exclude-from-external-load-balancers"
        elif told.network_unavailable:
            against[node.name] = "condition NetworkUnavailable"
        elif not told.ready:
            against[node.name] = "not ready"
    if not facts.snapshot.nodes:
        return failed("there is no node")
    texts = [f"{name}: {why}" for name, why in against.items()]
    if len(against) == len(facts.snapshot.nodes):
        return failed(f"no node may announce: {listed(texts)}", against=against)
    if against:
        return warning(listed(texts), against=against)
    return ok(f"all {len(facts.snapshot.nodes)} may announce")


def _speakers(facts: ClusterFacts) -> Judgement:
    alive = facts.snapshot.speakers
    if alive is None:
        return skipped("no speaker of Clarion has shown itself yet")
    silent = sorted({node.name for node in facts.snapshot.nodes} - set(alive))
    if silent:
        return warning(f"none lives on {listed(silent)}", silent=silent)
    return ok(f"alive on all {len(alive)} nodes")


def _kube_proxy(facts: ClusterFacts) -> Judgement:
    found = facts.kube_proxy
    if isinstance(found, Unread):
        return found.skipped
    if found is None:
        return skipped("no ConfigMap kube-system/kube-proxy")
    if found.mode == "ipvs" and not found.strict_arp:
        return failed("mode ipvs without strictARP", mode=found.mode)
    return ok(f"mode {found.mode or 'iptables'}", mode=found.mode)


# Configuration and services.


def _configuration(facts: ClusterFacts) -> Judgement:
    errors = [item for item in facts.plan.problems if item.severity == "error"]
    texts = [f"{item.object}: {item.message}" for item in errors]
    if errors:
        return failed(listed(texts), problems=texts)
    return ok(f"{len(facts.plan.config.pools)} pools, no errors")


def _overlaps(facts: ClusterFacts) -> Judgement:
    found = [item for item in facts.plan.problems if item.code.startswith("pool-overlaps-")]
    texts = [f"{item.object}: {item.message}" for item in found]
    if found:
        return warning(listed(texts), problems=texts)
    return ok("none")


def _balanced(facts: ClusterFacts, *, given: bool) -> Iterator[ServicePlan]:
    """Services that are ours to give addresses to, and have some in their status, or have none."""
    for service in facts.snapshot.services:
        item = facts.plan.services.get(service.key)
        ours = item and (item.outcome is None or item.outcome.action != "ignore")
        has = bool(service.status.load_balancer.ingress)
        if item and ours and service.spec.type == "LoadBalancer" and has == given:
            yield item


def _pending(facts: ClusterFacts) -> Judgement:
    waiting = {}
    for item in _balanced(facts, given=False):
        if item.addresses:
            waiting[str(item.service)] = "it would get one: does a controller run?"
        else:
            reasons = item.outcome.reasons if item.outcome else item.reasons
            waiting[str(item.service)] = reasons[-1].text if reasons else "no reason is known"
    if waiting:
        texts = [f"{name}: {why}" for name, why in waiting.items()]
        return failed(listed(texts), pending=waiting)
    return ok("every service has its addresses")


def _silent(facts: ClusterFacts) -> Judgement:
    silent = {}
    for item in _balanced(facts, given=True):
        if not item.l2.announced and not item.bgp.nodes:
            reasons = (*item.reasons, *item.l2.reasons, *item.bgp.reasons)
            silent[str(item.service)] = reasons[0].text if reasons else "no reason is known"
    if silent:
        texts = [f"{name}: {why}" for name, why in silent.items()]
        return warning(listed(texts), silent=silent)
    return ok("every address is announced by some node")


CLUSTER_CHECKS: Final[tuple[Check[ClusterFacts], ...]] = (
    Check(
        "second-announcer",
        "cluster",
        "Pods of other announcers, by image",
        "two answer for one address, or fight over a service's status",
        "stop the other, or give each a loadBalancerClass of its own",
        _announcers,
    ),
    Check(
        "second-configuration",
        "cluster",
        "pools and policies of Cilium's announcer",
        "Cilium gives addresses to the same services and answers for them",
        "delete them, or separate by loadBalancerClass",
        _foreign,
    ),
    Check(
        "frr-leftovers",
        "cluster",
        "FRRConfigurations that MetalLB's speakers wrote",
        "frr-k8s goes on announcing them when the speakers are gone",
        "kubectl -n NAMESPACE delete frrconfigurations NAME",
        _leftovers,
    ),
    Check(
        "status-writers",
        "cluster",
        "ServiceL2Status objects: whose, and how many for a service",
        "two nodes that say they answer for one address, mostly do",
        "see `second-announcer`; what a Pod owned goes with the Pod",
        _statuses,
    ),
    Check(
        "definitions",
        "cluster",
        "the CustomResourceDefinitions and their versions",
        "a kind that is not served stops the programs at the start",
        "clarion crds | kubectl apply --server-side --force-conflicts -f -",
        _definitions,
    ),
    Check(
        "webhooks",
        "cluster",
        "webhooks about our kinds and services: is there anybody to ask?",
        "failurePolicy Fail and nobody there: every change is refused",
        "start the controller, or delete the webhook configuration",
        _webhooks,
    ),
    Check(
        "permissions",
        "cluster",
        "what these credentials may do",
        "a program that may not list or write waits for ever",
        "apply the roles in deploy/, or use credentials that have them",
        _permissions,
    ),
    Check(
        "clock",
        "cluster",
        "the API's clock beside this one",
        "certificates and the ages of Leases are read wrongly",
        "run an NTP client on every node",
        _clock,
    ),
    Check(
        "nodes",
        "cluster",
        "nodes that may not announce",
        "addresses go elsewhere; with none left they go dark",
        "kubectl label node NAME node.kubernetes.io/exclude-from-external-load-balancers-",
        _nodes,
    ),
    Check(
        "speakers",
        "cluster",
        "Leases of Clarion's speakers",
        "a node without a live speaker announces nothing",
        "kubectl -n NAMESPACE get pods -o wide; kubectl logs",
        _speakers,
    ),
    Check(
        "kube-proxy",
        "cluster",
        "kube-proxy's mode and strictARP",
        "with ipvs every kernel answers ARP for every service address",
        "set `ipvs.strictARP: true` in ConfigMap kube-system/kube-proxy and restart it",
        _kube_proxy,
    ),
    Check(
        "configuration",
        "cluster",
        "errors of the configuration",
        "an object with an error is set aside",
        "clarion validate",
        _configuration,
    ),
    Check(
        "overlaps",
        "cluster",
        "pools that share addresses with nodes, pods or cluster IPs",
        "clients and pods reach the wrong machine",
        "give the pool other addresses",
        _overlaps,
    ),
    Check(
        "pending",
        "cluster",
        "services without an address",
        "they cannot be reached from outside",
        "clarion explain service NAMESPACE/NAME",
        _pending,
    ),
    Check(
        "announced",
        "cluster",
        "services that no node announces",
        "no ready endpoint (externalTrafficPolicy Local: on no candidate), no advertisement",
        "clarion explain service NAMESPACE/NAME",
        _silent,
    ),
)
