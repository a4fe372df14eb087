"""Manifests on the ground of what is in force: what a cluster would keep is carried over.

Manifests say what people want; who has which address, which nodes there are and what they run is
in the cluster. A change can only be judged if both plans stand on the same ground:

- a service that names no address of its own in its status keeps those that it has in the old plan,
  and the cluster IPs and age that the cluster gave it;
- nodes and services are those of the manifests if there are any, else those in force (services
  only where a cluster is in force: in files, a service that is not there was deleted);
- namespaces, secrets and endpoints that the manifests do not hold are those in force;
- what only a cluster tells (live speakers, interfaces, present owners, addresses at rest) and the
  settings of its programs are those in force, and so is the last valid version of an object that
  has an error in the manifests;
- where neither side tells of any node, both get one that every selector selects, so that routes and
  sessions can be compared.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from clarion.decide.endpoints import service_of
from clarion.decide.plan import Plan
from clarion.decide.planner import plan as decide
from clarion.decide.snapshot import Options, SecretFacts, Snapshot
from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.core import (
    EndpointSlice,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Namespace,
    Node,
    Service,
    ServiceStatus,
)
from clarion.model.meta import ObjectKey, ObjectMeta
from clarion.model.metallb import BGPAdvertisement, BGPPeer, L2Advertisement

STAND_IN = "(any)"
"""Name of the node that stands for all where none is given."""


def on_equal_ground(old: Snapshot, new: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Both sides of a comparison, fit to be planned and compared."""
    new = carried(new, old, decide(old))
    if old.nodes or new.nodes or not old.options.assume_cluster:
        return old, new
    return with_stand_in(old), with_stand_in(new)


def with_stand_in(snapshot: Snapshot) -> Snapshot:
    """The same with one node, which every selector selects."""
    return msgspec.structs.replace(
        snapshot,
        nodes=(Node(metadata=ObjectMeta(name=STAND_IN)),),
        l2_advertisements=tuple(map(_everywhere, snapshot.l2_advertisements)),
        bgp_advertisements=tuple(map(_everywhere, snapshot.bgp_advertisements)),
        peers=tuple(map(_everywhere, snapshot.peers)),
    )


Placed = TypeVar("Placed", L2Advertisement, BGPAdvertisement, BGPPeer)


def _everywhere(obj: Placed) -> Placed:
    spec = msgspec.structs.replace(obj.spec, node_selectors=())
    return msgspec.structs.replace(obj, spec=spec)


def carried(new: Snapshot, old: Snapshot, plan: Plan) -> Snapshot:
    """The new objects on the ground of the old ones, of which `plan` is the plan.

    Objects of a cluster stand on their own ground and are given back as they are.
    """
    if not new.options.assume_cluster:
        return new
    cluster = not old.options.assume_cluster
    services = new.services if new.services or not cluster else old.services
    before = {item.key: item for item in old.services}
    kept = (_kept(item, before.get(item.key), plan) for item in services)
    return msgspec.structs.replace(
        new,
        options=_options(new, old) if cluster else new.options,
        nodes=new.nodes or old.nodes,
        services=tuple(kept),
        namespaces=_joined(new.namespaces, old.namespaces),
        secrets=_joined(new.secrets, old.secrets),
        endpoint_slices=_slices(new, old, before if cluster else {}),
        speakers=old.speakers if new.speakers is None else new.speakers,
        interfaces=new.interfaces or old.interfaces,
        incumbents=new.incumbents or old.incumbents,
        resting=old.resting,
        now=old.now,
        in_force=old.in_force,
    )


def _options(new: Snapshot, old: Snapshot) -> Options:
    """The settings of the programs in force, with those that the user named for the manifests."""
    wanted = new.options
    return msgspec.structs.replace(
        old.options,
        assume_cluster=True,
        namespace=wanted.namespace or old.options.namespace,
        lb_class=wanted.lb_class or old.options.lb_class,
    )


Named = TypeVar("Named", bound=Namespace | SecretFacts)


def _joined(new: tuple[Named, ...], old: tuple[Named, ...]) -> tuple[Named, ...]:
    """The new objects, and the old ones of other names."""
    known = {(item.namespace, item.name) for item in new}
    return (*new, *(item for item in old if (item.namespace, item.name) not in known))


def _slices(
    new: Snapshot, old: Snapshot, before: Mapping[ObjectKey, Service]
) -> tuple[EndpointSlice, ...]:
    """Endpoints of the manifests, else those in force; a known service without any has none."""
    own = {service_of(item) for item in new.endpoint_slices}
    more = [item for item in old.endpoint_slices if service_of(item) not in own]
    told = own | {service_of(item) for item in more}
    return (*new.endpoint_slices, *more, *map(_empty, sorted(before.keys() - told)))


def _empty(service: ObjectKey) -> EndpointSlice:
    labels = {LABEL_SLICE_SERVICE: service.name}
    meta = ObjectMeta(name=service.name, namespace=service.namespace, labels=labels)
    return EndpointSlice(metadata=meta)


def _kept(new: Service, old: Service | None, plan: Plan) -> Service:
    """A service with what the cluster gave it."""
    if old is None:
        return new
    meta = msgspec.structs.replace(
        new.metadata,
        creation_timestamp=new.metadata.creation_timestamp or old.metadata.creation_timestamp,
    )
    changes: dict[str, object] = {"metadata": meta}
    if not new.spec.cluster_ips and not new.spec.cluster_ip and _same_families(new, old):
        changes["spec"] = msgspec.structs.replace(
            new.spec,
            cluster_ip=old.spec.cluster_ip,
            cluster_ips=old.spec.cluster_ips,
            ip_families=new.spec.ip_families or old.spec.ip_families,
            ip_family_policy=new.spec.ip_family_policy or old.spec.ip_family_policy,
        )
    item = plan.services.get(new.key)
    if item and item.addresses and not new.status.load_balancer.ingress:
        changes["status"] = _status(map(str, item.addresses))
    return msgspec.structs.replace(new, **changes)


def _same_families(new: Service, old: Service) -> bool:
    """True unless the manifest asks for other families than the service has."""
    one, two = new.spec, old.spec
    return (one.ip_family_policy or two.ip_family_policy) == two.ip_family_policy and (
        one.ip_families or two.ip_families
    ) == two.ip_families


def _status(addresses: Iterable[str]) -> ServiceStatus:
    ingress = tuple(LoadBalancerIngress(ip=text) for text in addresses)
    return ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
