"""What the programs read of the API, and how it reaches the planner."""

from collections.abc import Mapping
from sys import intern

from clarion.decide.planner import Planner
from clarion.decide.snapshot import SecretFacts
from clarion.edge.kubeclient import Selection
from clarion.edge.reflector import Informers
from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.core import (
    Endpoint,
    EndpointConditions,
    EndpointSlice,
    Namespace,
    Node,
    Secret,
    Service,
)
from clarion.model.kinds import Kind, kind_of
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import (
    BFDProfile,
    BGPAdvertisement,
    BGPPeer,
    Community,
    IPAddressPool,
    L2Advertisement,
)

CONFIG_KINDS = (
    IPAddressPool,
    L2Advertisement,
    BGPAdvertisement,
    BGPPeer,
    BFDProfile,
    Community,
    Secret,
)
"""Kinds of the configuration, read in the configuration's namespace."""

CLUSTER_KINDS = (Namespace, Node, Service)
"""Kinds read everywhere."""


def follow_inputs(informers: Informers, namespace: str) -> None:
    """Follow every kind that both programs read."""
    for configured in CONFIG_KINDS:
        informers.add(configured, selection=Selection(namespace=namespace))
    for clusterwide in CLUSTER_KINDS:
        informers.add(clusterwide)


_READY = EndpointConditions(ready=True)


def endpoints_read(item: EndpointSlice) -> EndpointSlice:
    """What is decided from of a slice: whose it is, and where its endpoints are.

    Slices are most of what a speaker knows of a large cluster, and most of a slice is for proxies.
    """
    service = item.metadata.labels.get(LABEL_SLICE_SERVICE, "")
    meta = ObjectMeta(
        name=item.name,
        namespace=intern(item.namespace),
        labels={LABEL_SLICE_SERVICE: service},
    )
    endpoints = tuple(
        Endpoint(
            addresses=found.addresses,
            conditions=_READY if found.conditions == _READY else found.conditions,
            node_name=found.node_name and intern(found.node_name),
        )
        for found in item.endpoints
    )
    return EndpointSlice(metadata=meta, address_type=intern(item.address_type), endpoints=endpoints)


def feed(planner: Planner, kind: Kind, key: ObjectKey, new: KubeObject | None) -> None:
    """Pass a change on to the planner; None: the object is gone."""
    if new is not None:
        planner.put(new)
    else:
        planner.remove(SecretFacts if kind.struct is Secret else kind.struct, key)


def feed_all(planner: Planner, informers: Informers) -> None:
    """Pass everything on that was read, to a planner that has seen nothing yet."""
    for of in (*CONFIG_KINDS, *CLUSTER_KINDS):
        for obj in informers.store(of).values():
            planner.put(obj)


def unreadable(informers: Informers, of: type[KubeObject]) -> Mapping[str, str]:
    """Objects of a kind that cannot be read, by `namespace/name`, with the reason."""
    kind = kind_of(of).kind
    return next(health.set_aside for health in informers.health if health.kind == kind)
