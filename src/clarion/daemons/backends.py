"""What announces by BGP for a speaker: one interface, several back ends."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from clarion.base.addr import Prefix
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.problems import Problem
from clarion.decide.settings import Peer
from clarion.edge.metrics import Sample
from clarion.edge.pulse import PulseClient
from clarion.model.metallb import BFDProfileSpec
from clarion.model.sessions import BGPSessionStatus


class Asked:
    """What was decided so far, for a back end that puts the whole of it in force.

    Attributes:
        peers: By name; None before they are known.
        profiles: All BFD profiles, by name.
        routes: Peer -> what it is to be told.
    """

    def __init__(self) -> None:
        self.peers: dict[str, Peer] | None = None
        self.profiles: dict[str, BFDProfileSpec] = {}
        self.routes: dict[str, dict[Prefix, AdvertisedRoute]] = {}

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Make these the peers; those that stay keep their routes."""
        self.peers, self.profiles = dict(peers), dict(profiles)
        self.routes = {name: self.routes.get(name, {}) for name in peers}

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        """Change what a peer is to be told; None withdraws."""
        routes = self.routes[peer]
        for prefix, route in changes.items():
            if route is None:
                routes.pop(prefix, None)
            else:
                routes[prefix] = route


class BgpBackend(Protocol):
    """Takes what was decided, and tells what became of it. One task calls it; nothing blocks.

    Attributes:
        ends_sessions: Its sessions end with this program.
    """

    ends_sessions: bool

    def begin(self, *, restarted: bool) -> None:
        """Called once, before the first `set_peers`.

        Args:
            restarted: This node's speaker ran before, and the node did not start anew since: the
                traffic of its routes never stopped (RFC 4724 §4.1).
        """

    def attach(self, pulse: PulseClient) -> None:
        """Take the pulse process, which runs the BFD sessions of who has none of his own."""

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Make these the peers, by name; sessions that are not concerned go on.

        Args:
            peers: The peers of this node. Those of before that are missing here end.
            profiles: All BFD profiles in force, by name.
        """

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        """Tell a peer, known by `set_peers`, what changed; None withdraws."""

    async def stop(self, *, keep_routes: bool) -> None:
        """End what this program holds; what outlives it on purpose stays.

        Args:
            keep_routes: The speaker comes back soon: peers may keep the routes meanwhile, where
                graceful restart was agreed on (RFC 4724).
        """

    def problems(self) -> Sequence[Problem]:
        """What of the configuration cannot be put in force at present."""

    def states(self) -> dict[str, BGPSessionStatus]:
        """Peer -> how its session stands, of the peers of which that is known, sorted."""

    def samples(self) -> Iterable[Sample]:
        """Metrics of the sessions."""

    def shown(self) -> dict[str, object]:
        """What `/debug/snapshot` shows of the sessions, by peer."""

    @property
    def neighborhoods(self) -> object:
        """What `/debug/snapshot` shows of the links with unnumbered peers; None: not known here."""

    @property
    def listener(self) -> object:
        """What `/debug/snapshot` shows of the port for peers; None when there is none."""
