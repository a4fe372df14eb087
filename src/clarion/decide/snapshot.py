"""The inputs of every decision, as one frozen value.

A snapshot comes from files, from a live API or from a saved `/debug/snapshot`; what is decided from
it is the same. It holds objects in their stored version and nothing that a decision does not read.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from clarion.decide.observed import Observed
from clarion.decide.resting import Rest
from clarion.decide.settings import Config
from clarion.model.convert import to_hub
from clarion.model.core import EndpointSlice, Namespace, Node, Secret, Service
from clarion.model.meta import KubeObject, ObjectKey
from clarion.model.metallb import (
    BFDProfile,
    BGPAdvertisement,
    BGPPeer,
    BGPPeerV1Beta1,
    Community,
    IPAddressPool,
    L2Advertisement,
)

Backend = Literal["native", "frr", "frr-k8s"]
BLANKED = "***"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
BASIC_AUTH = "kubernetes.io/basic-auth"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the programs that change decisions.

    Attributes:
        lb_class: Handle only services of this loadBalancerClass; empty: only those without one.
        ignore_exclude_lb: Let nodes announce that are labelled to be excluded.
        l2_require_interface: Only nodes that have a wanted interface can own an address.
        backend: Who speaks BGP.
        graceful_shutdown: Routes of a node that is drained become the last choice (RFC 8326).
        namespace: Where configuration objects must live; empty: anywhere.
        assume_cluster: The objects are manifests as people write them. What a cluster fills in
            (cluster IPs, endpoints) is assumed to be there.
    """

    lb_class: str = ""
    ignore_exclude_lb: bool = False
    l2_require_interface: bool = False
    backend: Backend = "native"
    graceful_shutdown: bool = False
    namespace: str = ""
    assume_cluster: bool = False


class SecretFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision reads of a Secret."""

    namespace: str = ""
    name: str
    type: str = ""
    has_password: bool = False
    password: str = ""

    def __repr__(self) -> str:
        """Leave the password out, so that no message can hold it by accident."""
        return f"SecretFacts({self.namespace}/{self.name}, {self.type})"

    @classmethod
    def of(cls, secret: Secret) -> "SecretFacts":
        """Read the key `password` of a Secret, from `stringData` or base64 `data`."""
        encoded = secret.data.get("password", "")
        try:
            stored = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            stored = ""
        password = secret.string_data.get("password", stored)
        return cls(
            namespace=secret.namespace,
            name=secret.name,
            type=secret.type,
            has_password=bool(password),
            password=password,
        )


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Every input of a decision.

    Attributes:
        speakers: Names of nodes with a live speaker; None when unknown: all nodes are assumed.
        stopping: Names of nodes whose speaker is about to stop.
        interfaces: Interface names of the nodes of which they are known.
        incumbents: Address (text) -> node that answers for it now.
        outdated: BGPPeers that were given in version v1beta1.
        resting: Addresses that others may not have yet, and how late it is on the same clock.
        observed: What running programs report of themselves.
        in_force: The configuration of the program that shows this; its entries go on in the place
            of objects that became invalid. None: nobody knows, the objects are all there is.
    """

    options: Options = Options()
    namespaces: tuple[Namespace, ...] = ()
    nodes: tuple[Node, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    secrets: tuple[SecretFacts, ...] = ()
    pools: tuple[IPAddressPool, ...] = ()
    l2_advertisements: tuple[L2Advertisement, ...] = ()
    bgp_advertisements: tuple[BGPAdvertisement, ...] = ()
    peers: tuple[BGPPeer, ...] = ()
    bfd_profiles: tuple[BFDProfile, ...] = ()
    communities: tuple[Community, ...] = ()
    speakers: tuple[str, ...] | None = None
    stopping: tuple[str, ...] = ()
    interfaces: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    incumbents: dict[str, str] = msgspec.field(default_factory=dict)
    outdated: tuple[ObjectKey, ...] = ()
    resting: tuple[Rest, ...] = ()
    now: float = 0.0
    observed: Observed = Observed()
    in_force: Config | None = None

    @classmethod
    def from_objects(
        cls,
        objects: Iterable[KubeObject | SecretFacts],
        options: Options | None = None,
        *,
        speakers: Iterable[str] | None = None,
        interfaces: Mapping[str, Iterable[str]] | None = None,
        incumbents: Mapping[str, str] | None = None,
    ) -> "Snapshot":
        """Sort objects by kind, and by namespace and name within it; other kinds are left out."""
        found: dict[str, list[KubeObject | SecretFacts]] = {name: [] for name in FIELDS.values()}
        outdated = []
        for item in objects:
            if isinstance(item, BGPPeerV1Beta1):
                outdated.append(item.key)
            obj = normalise(item)
            if field := FIELDS.get(type(obj)):
                found[field].append(obj)
        ordered = {
            field: tuple(sorted(items, key=lambda obj: (obj.namespace, obj.name)))
            for field, items in found.items()
        }
        return msgspec.structs.replace(
            cls(options=options or Options()),
            **ordered,
            speakers=None if speakers is None else tuple(sorted(speakers)),
            interfaces={n: tuple(sorted(i)) for n, i in sorted((interfaces or {}).items())},
            incumbents=dict(sorted((incumbents or {}).items())),
            outdated=tuple(sorted(outdated)),
        )

    def objects(self) -> Iterable[KubeObject | SecretFacts]:
        """All objects, kind by kind."""
        for field in FIELDS.values():
            yield from getattr(self, field)

    def redacted(self) -> "Snapshot":
        """The same with every password blanked, fit to be shown."""
        secrets = tuple(
            msgspec.structs.replace(secret, password=BLANKED if secret.has_password else "")
            for secret in self.secrets
        )
        peers = tuple(_redacted_peer(peer) for peer in self.peers)
        in_force = self.in_force and self.in_force.redacted(BLANKED)
        return msgspec.structs.replace(self, secrets=secrets, peers=peers, in_force=in_force)


def _redacted_peer(peer: BGPPeer) -> BGPPeer:
    if not peer.spec.password:
        return peer
    # kubectl keeps a copy of the whole object, password included, in an annotation.
    annotations = {k: v for k, v in peer.metadata.annotations.items() if k != LAST_APPLIED}
    return msgspec.structs.replace(
        peer,
        metadata=msgspec.structs.replace(peer.metadata, annotations=annotations),
        spec=msgspec.structs.replace(peer.spec, password=BLANKED),
    )


FIELDS: dict[type, str] = {
    Namespace: "namespaces",
    Node: "nodes",
    Service: "services",
    EndpointSlice: "endpoint_slices",
    SecretFacts: "secrets",
    IPAddressPool: "pools",
    L2Advertisement: "l2_advertisements",
    BGPAdvertisement: "bgp_advertisements",
    BGPPeer: "peers",
    BFDProfile: "bfd_profiles",
    Community: "communities",
}
"""Type of an input object -> field of `Snapshot` that holds it."""


def normalise(obj: KubeObject | SecretFacts) -> KubeObject | SecretFacts:
    """The form in which decisions read an object: stored version, secrets reduced to facts."""
    if isinstance(obj, Secret):
        return SecretFacts.of(obj)
    return to_hub(obj) if isinstance(obj, KubeObject) else obj
