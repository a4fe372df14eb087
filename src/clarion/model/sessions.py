"""BGPSession (group clarion.metallb.io): how one BGP session of one node stands.

Its status is the one vocabulary for sessions: every back end fills it, as far as it knows, and
`kubectl get`, `clarion status`, `explain` and the metrics show it. What is unknown stays empty.
Moments are texts as RFC 3339 has them, durations whole milliseconds.
"""

from clarion.model.meta import KubeObject, Model, always

GROUP = "clarion.metallb.io"
V1BETA1 = "clarion.metallb.io/v1beta1"


class SessionEvent(Model, frozen=True, kw_only=True, gc=False):
    """Something that happened to a session, in words."""

    text: str = ""
    time: str = ""


class SessionFamily(Model, frozen=True, kw_only=True, gc=False):
    """Whether routes of an address family are sent: with which next hop, or why not."""

    family: str = ""
    sent: bool | None = None
    next_hop: str = ""
    reason: str = ""


class SessionPrefixes(Model, frozen=True, kw_only=True, gc=False):
    """Counts of prefixes."""

    announced: int | None = None
    pending: int | None = None
    refused: int | None = None
    received: int | None = None
    near_limit: bool | None = None


class SessionCapabilities(Model, frozen=True, kw_only=True, gc=False):
    """What the two sides offered when the session began, and what they agreed on."""

    ours: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    agreed: tuple[str, ...] = ()


class SessionBFD(Model, frozen=True, kw_only=True, gc=False):
    """How BFD sees the path to the peer."""

    state: str = ""
    diagnostic: str = ""
    last_down: SessionEvent | None = None
    transmit_interval: int | None = None
    receive_interval: int | None = None
    detection_time: int | None = None


class BGPSessionStatus(Model, frozen=True, kw_only=True, gc=False):
    """How the session stands."""

    node: str = ""
    peer: str = ""
    vrf: str = ""
    state: str = ""
    since: str = ""
    local_address: str = ""
    remote_address: str = ""
    remote_asn: int | None = None
    local_router_id: str = ""
    remote_router_id: str = ""
    hold_time: int | None = None
    keepalive_time: int | None = None
    families: tuple[SessionFamily, ...] = ()
    capabilities: SessionCapabilities | None = None
    prefixes: SessionPrefixes | None = None
    bfd: SessionBFD | None = None
    last_error: SessionEvent | None = None
    notification_sent: SessionEvent | None = None
    notification_received: SessionEvent | None = None
    established: int | None = None
    flaps: int | None = None
    time_to_established: int | None = None

    @property
    def up(self) -> bool:
        """Whether routes are exchanged."""
        return self.state == ESTABLISHED


ESTABLISHED = "Established"
UNKNOWN = "Unknown"
"""The state when who has the session does not tell it."""


class BGPSession(KubeObject, frozen=True, kw_only=True, gc=False):
    """A BGP session of a node with a BGPPeer."""

    api_version: str = always(V1BETA1)
    kind: str = always("BGPSession")
    status: BGPSessionStatus = BGPSessionStatus()
