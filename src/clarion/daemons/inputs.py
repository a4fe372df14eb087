"""What the programs read of the API, and how it reaches the planner."""

from clarion.decide.planner import Planner
from clarion.decide.snapshot import SecretFacts
from clarion.edge.kubeclient import Selection
from clarion.edge.reflector import Informers
from clarion.model.core import Namespace, Node, Secret, Service
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey
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


def feed(planner: Planner, kind: Kind, key: ObjectKey, new: KubeObject | None) -> None:
    """Pass a change on to the planner; None: the object is gone."""
    if new is not None:
        planner.put(new)
    else:
        planner.remove(SecretFacts if kind.struct is Secret else kind.struct, key)
