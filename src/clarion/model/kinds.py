"""Registry of the kinds: names, versions, structs and printer columns, with look-ups."""

from typing import Final

import msgspec

from clarion.model import core, frrk8s, metallb, sessions
from clarion.model.meta import KubeObject


class Column(msgspec.Struct, frozen=True):
    """One column that `kubectl get` prints; a priority above zero shows only with `-o wide`."""

    name: str
    type: str
    json_path: str
    priority: int = 0


class Kind(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One row of the registry: a kind in one version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    struct: type[KubeObject]
    status_subresource: bool = False
    columns: tuple[Column, ...] = ()
    stored: bool = True
    deprecated: bool = False
    deprecation_warning: str = ""

    @property
    def api_version(self) -> str:
        """`group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """Kind of a list of these."""
        return f"{self.kind}List"

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition declares this kind."""
        return self.group in (metallb.GROUP, sessions.GROUP)


def _core(
    struct: type[KubeObject],
    plural: str,
    *short_names: str,
    group: str = "",
    namespaced: bool = True,
    status: bool = False,
) -> Kind:
    return Kind(
        group=group,
        version="v1",
        kind=struct.__name__,
        plural=plural,
        singular=struct.__name__.lower(),
        namespaced=namespaced,
        short_names=short_names,
        struct=struct,
        status_subresource=status,
    )


def _metallb(struct: type[KubeObject], plural: str, *columns: Column) -> Kind:
    return Kind(
        group=metallb.GROUP,
        version="v1beta1",
        kind=struct.__name__,
        plural=plural,
        singular=struct.__name__.lower(),
        struct=struct,
        status_subresource=True,
        columns=columns,
    )


NAMESPACE: Final = _core(core.Namespace, "namespaces", "ns", namespaced=False, status=True)
NODE: Final = _core(core.Node, "nodes", "no", namespaced=False, status=True)
SERVICE: Final = _core(core.Service, "services", "svc", status=True)
ENDPOINT_SLICE: Final = _core(core.EndpointSlice, "endpointslices", group="discovery.k8s.io")
SECRET: Final = _core(core.Secret, "secrets")
CONFIG_MAP: Final = _core(core.ConfigMap, "configmaps", "cm")
EVENT: Final = _core(core.Event, "events", "ev")
LEASE: Final = _core(core.Lease, "leases", group="coordination.k8s.io")
POD: Final = _core(core.Pod, "pods", "po", status=True)
CUSTOM_RESOURCE_DEFINITION: Final = _core(
    core.CustomResourceDefinition,
    "customresourcedefinitions",
    "crd",
    "crds",
    group="apiextensions.k8s.io",
    namespaced=False,
    status=True,
)
VALIDATING_WEBHOOK_CONFIGURATION: Final = _core(
    core.ValidatingWebhookConfiguration,
    "validatingwebhookconfigurations",
    group="admissionregistration.k8s.io",
    namespaced=False,
)

_POOL_COLUMNS = (
    Column("IPAddressPools", "string", ".spec.ipAddressPools"),
    Column("IPAddressPool Selectors", "string", ".spec.ipAddressPoolSelectors"),
)
_NODE_SELECTORS = Column("Node Selectors", "string", ".spec.nodeSelectors", priority=10)
_SERVICE_COLUMNS = (
    Column("Service Name", "string", ".status.serviceName"),
    Column("Service Namespace", "string", ".status.serviceNamespace"),
)
_PEER_COLUMNS = (
    Column("Address", "string", ".spec.peerAddress"),
    Column("ASN", "string", ".spec.peerASN"),
    Column("BFD Profile", "string", ".spec.bfdProfile"),
    Column("Multi Hops", "string", ".spec.ebgpMultiHop"),
)

IP_ADDRESS_POOL: Final = _metallb(
    metallb.IPAddressPool,
    "ipaddresspools",
    Column("Auto Assign", "boolean", ".spec.autoAssign"),
    Column("Avoid Buggy IPs", "boolean", ".spec.avoidBuggyIPs"),
    Column("Addresses", "string", ".spec.addresses"),
)
BGP_ADVERTISEMENT: Final = _metallb(
    metallb.BGPAdvertisement,
    "bgpadvertisements",
    *_POOL_COLUMNS,
    Column("Peers", "string", ".spec.peers"),
    _NODE_SELECTORS,
)
L2_ADVERTISEMENT: Final = _metallb(
    metallb.L2Advertisement,
    "l2advertisements",
    *_POOL_COLUMNS,
    Column("Interfaces", "string", ".spec.interfaces"),
    _NODE_SELECTORS,
)
BGP_PEER: Final = Kind(
    group=metallb.GROUP,
    version="v1beta2",
    kind="BGPPeer",
    plural="bgppeers",
    singular="bgppeer",
    struct=metallb.BGPPeer,
    status_subresource=True,
    columns=_PEER_COLUMNS,
)
BGP_PEER_V1BETA1: Final = Kind(
    group=metallb.GROUP,
    version="v1beta1",
    kind="BGPPeer",
    plural="bgppeers",
    singular="bgppeer",
    struct=metallb.BGPPeerV1Beta1,
    status_subresource=True,
    columns=_PEER_COLUMNS,
    stored=False,
    deprecated=True,
    deprecation_warning="metallb.io/v1beta1 BGPPeer is deprecated; use metallb.io/v1beta2",
)
BFD_PROFILE: Final = _metallb(
    metallb.BFDProfile,
    "bfdprofiles",
    Column("Passive Mode", "boolean", ".spec.passiveMode"),
    Column("Transmit Interval", "integer", ".spec.transmitInterval"),
    Column("Receive Interval", "integer", ".spec.receiveInterval"),
    Column("Multiplier", "integer", ".spec.detectMultiplier"),
)
COMMUNITY: Final = _metallb(metallb.Community, "communities")
SERVICE_L2_STATUS: Final = _metallb(
    metallb.ServiceL2Status,
    "servicel2statuses",
    Column("Allocated Node", "string", ".status.node"),
    *_SERVICE_COLUMNS,
)
SERVICE_BGP_STATUS: Final = _metallb(
    metallb.ServiceBGPStatus,
    "servicebgpstatuses",
    Column("Node", "string", ".status.node"),
    *_SERVICE_COLUMNS,
)
CONFIGURATION_STATE: Final = _metallb(
    metallb.ConfigurationState,
    "configurationstates",
    Column("Result", "string", ".status.result"),
    Column("ErrorSummary", "string", ".status.errorSummary"),
    Column("Age", "date", ".metadata.creationTimestamp"),
)

BGP_SESSION: Final = Kind(
    group=sessions.GROUP,
    version="v1beta1",
    kind="BGPSession",
    plural="bgpsessions",
    singular="bgpsession",
    struct=sessions.BGPSession,
    status_subresource=True,
    columns=(
        Column("Node", "string", ".status.node"),
        Column("Peer", "string", ".status.peer"),
        Column("State", "string", ".status.state"),
        Column("BFD", "string", ".status.bfd.state"),
        Column("Since", "date", ".status.since"),
        Column("Prefixes", "integer", ".status.prefixes.announced"),
        Column("Last Error", "string", ".status.lastError.text"),
    ),
)

KINDS: Final[tuple[Kind, ...]] = (
    NAMESPACE,
    NODE,
    SERVICE,
    ENDPOINT_SLICE,
    SECRET,
    CONFIG_MAP,
    EVENT,
    LEASE,
    POD,
    CUSTOM_RESOURCE_DEFINITION,
    IP_ADDRESS_POOL,
    BGP_ADVERTISEMENT,
    L2_ADVERTISEMENT,
    BGP_PEER,
    BGP_PEER_V1BETA1,
    BFD_PROFILE,
    COMMUNITY,
    SERVICE_L2_STATUS,
    SERVICE_BGP_STATUS,
    CONFIGURATION_STATE,
    BGP_SESSION,
)


def _frrk8s(struct: type[KubeObject], plural: str) -> Kind:
    return Kind(
        group=frrk8s.GROUP,
        version="v1beta1",
        kind=struct.__name__,
        plural=plural,
        singular=struct.__name__.lower(),
        struct=struct,
        status_subresource=True,
    )


FRR_CONFIGURATION: Final = _frrk8s(frrk8s.FRRConfiguration, "frrconfigurations")
BGP_SESSION_STATE: Final = _frrk8s(frrk8s.BGPSessionState, "bgpsessionstates")

CLUSTER_ONLY: Final = (VALIDATING_WEBHOOK_CONFIGURATION, FRR_CONFIGURATION, BGP_SESSION_STATE)
"""Kinds of a cluster that the embedded API has no use for: it asks no webhooks and knows no
frr-k8s."""

_BY_NAME = {kind.kind: kind for kind in KINDS if kind.stored}
_BY_API_VERSION = {(kind.api_version, kind.kind): kind for kind in KINDS}
_BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
_BY_STRUCT = {kind.struct: kind for kind in (*KINDS, *CLUSTER_ONLY)}


def kind_named(name: str) -> Kind:
    """The kind of this name in its stored version; KeyError if there is none."""
    return _BY_NAME[name]


def find_kind(api_version: str, kind: str) -> Kind | None:
    """The kind with this apiVersion and kind, None if Clarion does not know it."""
    return _BY_API_VERSION.get((api_version, kind))


def by_plural(group: str, version: str, plural: str) -> Kind | None:
    """The kind served under this path, None if Clarion does not know it."""
    return _BY_PLURAL.get((group, version, plural))


def kind_of(obj: KubeObject | type[KubeObject]) -> Kind:
    """The registry row of an object or struct."""
    return _BY_STRUCT[obj if isinstance(obj, type) else type(obj)]


def versions_of(group: str, plural: str) -> tuple[Kind, ...]:
    """All versions of a kind, the stored one first."""
    rows = [kind for kind in KINDS if (kind.group, kind.plural) == (group, plural)]
    return tuple(sorted(rows, key=lambda kind: not kind.stored))
