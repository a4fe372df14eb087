"""The kinds of frr-k8s (group frrk8s.metallb.io/v1beta1) that are written or read here.

Every field of the specification has its place, so that a change by somebody else is seen wherever
it is. Defaults are those of the CustomResourceDefinitions: what the API server fills in compares
equal to what was left out.
"""

from clarion.model.meta import KubeObject, LabelSelector, Model, always

GROUP = "frrk8s.metallb.io"
V1BETA1 = "frrk8s.metallb.io/v1beta1"

LABEL_NODE = "frrk8s.metallb.io/node"
"""On a BGPSessionState: the node whose session it is."""


class BFDProfile(Model, frozen=True, kw_only=True, gc=False):
    """Settings of BFD sessions under a name; intervals are milliseconds."""

    name: str
    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool | None = None
    passive_mode: bool | None = None
    minimum_ttl: int | None = None


class SecretReference(Model, frozen=True, kw_only=True, gc=False):
    """A Secret of type kubernetes.io/basic-auth; frr-k8s looks in its own namespace only."""

    name: str = ""
    namespace: str = ""


class AllowedOut(Model, frozen=True, kw_only=True, gc=False):
    """Which prefixes of the router a neighbour may be told."""

    prefixes: tuple[str, ...] = ()
    mode: str = "filtered"


class LocalPrefPrefixes(Model, frozen=True, kw_only=True, gc=False):
    """Prefixes told with a local preference."""

    prefixes: tuple[str, ...] = ()
    local_pref: int = 0


class CommunityPrefixes(Model, frozen=True, kw_only=True, gc=False):
    """Prefixes told with a community, `a:b` or `large:a:b:c`."""

    prefixes: tuple[str, ...] = ()
    community: str = ""


class Advertise(Model, frozen=True, kw_only=True, gc=False):
    """What a neighbour is told."""

    allowed: AllowedOut = AllowedOut()
    with_local_pref: tuple[LocalPrefPrefixes, ...] = ()
    with_community: tuple[CommunityPrefixes, ...] = ()


class PrefixSelector(Model, frozen=True, kw_only=True, gc=False):
    """A prefix, and the lengths of those inside it that are meant too."""

    prefix: str = ""
    le: int = 0
    ge: int = 0


class AllowedIn(Model, frozen=True, kw_only=True, gc=False):
    """Which prefixes are taken from a neighbour."""

    prefixes: tuple[PrefixSelector, ...] = ()
    mode: str = "filtered"


class Receive(Model, frozen=True, kw_only=True, gc=False):
    """What is taken from a neighbour; by default nothing."""

    allowed: AllowedIn = AllowedIn()


class Neighbor(Model, frozen=True, kw_only=True, gc=False):
    """A session; durations are texts such as `1m30s`."""

    asn: int = 0
    dynamic_asn: str = ""
    local_asn: int = 0
    sourceaddress: str = ""
    address: str = ""
    interface: str = ""
    port: int | None = None
    password: str = ""
    password_secret: SecretReference = SecretReference()
    hold_time: str | None = None
    keepalive_time: str | None = None
    connect_time: str | None = None
    ebgp_multi_hop: bool = False
    bfd_profile: str = ""
    enable_graceful_restart: bool = False
    to_advertise: Advertise = Advertise()
    to_receive: Receive = Receive()
    disable_mp: bool = False
    dual_stack_address_family: bool = False

    def __repr__(self) -> str:
        """Leave the password out, so that no message can hold it by accident."""
        return f"Neighbor({self.address or self.interface}, AS{self.asn or self.dynamic_asn})"


class Import(Model, frozen=True, kw_only=True, gc=False):
    """A VRF whose routes a router takes over."""

    vrf: str = ""


class Router(Model, frozen=True, kw_only=True, gc=False):
    """A BGP router: one AS number in one VRF."""

    asn: int
    id: str = ""
    vrf: str = ""
    neighbors: tuple[Neighbor, ...] = ()
    prefixes: tuple[str, ...] = ()
    imports: tuple[Import, ...] = ()


class BGPConfig(Model, frozen=True, kw_only=True, gc=False):
    """All of BGP and BFD."""

    routers: tuple[Router, ...] = ()
    bfd_profiles: tuple[BFDProfile, ...] = ()


class RawConfig(Model, frozen=True, kw_only=True, gc=False):
    """Lines put after the generated configuration; nothing is written here."""

    priority: int = 0
    raw_config: str = ""


class FRRConfigurationSpec(Model, frozen=True, kw_only=True, gc=False):
    """What FRR shall do, and on which nodes."""

    bgp: BGPConfig = BGPConfig()
    raw: RawConfig = RawConfig()
    node_selector: LabelSelector = LabelSelector()


class FRRConfiguration(KubeObject, frozen=True, kw_only=True, gc=False):
    """A part of the configuration of FRR; frr-k8s unites all parts that select a node."""

    api_version: str = always(V1BETA1)
    kind: str = always("FRRConfiguration")
    spec: FRRConfigurationSpec = FRRConfigurationSpec()


class BGPSessionStateStatus(Model, frozen=True, kw_only=True, gc=False):
    """How a session stands.

    Attributes:
        peer: Address or interface; an IPv6 address is written in full with `-` for `:`.
        bgp_status: State in the words of RFC 4271 §8.2.2.
        bfd_status: `up`, `down` or `N/A`.
    """

    node: str = ""
    peer: str = ""
    vrf: str = ""
    bgp_status: str = ""
    bfd_status: str = ""


class BGPSessionState(KubeObject, frozen=True, kw_only=True, gc=False):
    """What frr-k8s tells of one session of one node."""

    api_version: str = always(V1BETA1)
    kind: str = always("BGPSessionState")
    status: BGPSessionStateStatus = BGPSessionStateStatus()
