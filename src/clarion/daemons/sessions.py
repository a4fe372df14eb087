"""The BGP sessions of one node: planned peers and routes go in, states and counts come out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from clarion.base import limits
from clarion.base.addr import Prefix
from clarion.daemons.bfd import BfdWatch
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.daemons.sessionreports import Moments, native_report
from clarion.daemons.sessionsamples import message_samples, session_labels, session_samples
from clarion.daemons.translate import bgp_route, peer_config
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.problems import Problem
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.bgp import BgpSpeaker
from clarion.edge.pulse import PulseClient
from clarion.edge.routes import on_link
from clarion.model.metallb import BFDProfileSpec
from clarion.model.sessions import BGPSessionStatus
from clarion.proto.bfd.config import BfdStatus
from clarion.proto.bgp.config import State
from clarion.proto.bgp.session import StateChanged

STOP_COMMUNICATION = "speaker stops"


class Sessions:
    """The native back end: peers and what they are told.

    Args:
        runtime: The surroundings.
        node: Name of this node.
        port: Where peers may connect to. It is listened on only while some peer is waited for: on
            many nodes the port of BGP belongs to another speaker.
        notices: Tells of ups and downs.
        on_change: Called after each change of a session.
    """

    ends_sessions = True

    def __init__(
        self,
        runtime: Runtime,
        node: str,
        port: int,
        notices: SessionNotices,
        on_change: Callable[[], None],
    ) -> None:
        self._log = runtime.log
        self._made = partial(
            BgpSpeaker,
            node_name=node,
            clock=runtime.clock,
            entropy=runtime.entropy,
            port=None,
            on_change=self._on_change,
        )
        self._speaker = self._made()
        self._bfd = BfdWatch(runtime.log, self._path_lost, on_link, on_change)
        self._port = port
        self._notices = notices
        self._changed = on_change
        self._node = node
        self._moments = Moments(runtime.clock)
        self._peers: dict[str, Peer] = {}

    def begin(self, *, restarted: bool) -> None:
        """Sessions that begin from now on say whether traffic never stopped (RFC 4724 §4.1)."""
        self._speaker = self._made(restarted=restarted)

    def attach(self, pulse: PulseClient) -> None:
        """Have the pulse process watch the paths to the peers."""
        self._bfd.attach(pulse)

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Make these the peers; sessions that are not concerned go on."""
        configs = {name: peer_config(peer) for name, peer in peers.items()}
        self._listen(wanted=any(config.passive for config in configs.values()))
        effects = self._speaker.set_peers(configs)
        for name in configs.keys() - self._peers.keys():
            # A peer that is told nothing still learns that this is all (RFC 4724 §2, End-of-RIB).
            self._speaker.set_routes(name, ())
        self._log.info(
            "peers in force",
            peers=sorted(configs),
            added=sorted(configs.keys() - self._peers.keys()),
            removed=sorted(self._peers.keys() - configs.keys()),
            changed={name: effect.name for name, effect in effects.items() if effect.value},
        )
        self._peers = dict(peers)
        self._moments.keep(self._peers)
        self._bfd.set_peers(peers, profiles)
        self._notices.keep(set(self._peers))
        self._changed()

    def _listen(self, *, wanted: bool) -> None:
        before = self._speaker.listener_status()
        self._speaker.listen(self._port if wanted else None)
        listener = self._speaker.listener_status()
        for error in listener.errors if listener and not before else ():
            self._log.warn(
                "cannot listen for BGP peers; sessions are only opened from here until it works",
                error=error,
                remedy="stop the program that holds the port, or give another --bgp-port",
                retry_seconds=limits.BGP_LISTEN_RETRY_SECONDS,
            )

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        """Tell a peer what changed; None withdraws."""
        self._speaker.change_routes(
            peer,
            {
                prefix: None if route is None else bgp_route(route)
                for prefix, route in changes.items()
            },
        )
        self._log.debug("routes changed", peer=peer, prefixes=len(changes))

    async def stop(self, *, keep_routes: bool) -> None:
        """End all sessions, saying why; the peers withdraw the routes unless they may keep them."""
        self._peers = {}
        await self._speaker.stop(STOP_COMMUNICATION, keep_routes=keep_routes)

    def _path_lost(self, peer: str, reason: str) -> None:
        if peer in self._peers:
            self._speaker.fail(peer, reason)

    def _on_change(self, peer: str, change: StateChanged) -> None:
        self._log.info(
            "session",
            peer=peer,
            state=str(change.new),
            before=str(change.old),
            reason=change.reason,
        )
        status = self._speaker.status().get(peer)
        if status is not None and change.new is State.ESTABLISHED and status.remote_address:
            self._bfd.established(peer, status.remote_address)
        self._notices.report(peer, change)
        self._changed()

    def problems(self) -> Sequence[Problem]:
        """None: what this back end cannot do is decided before."""
        return ()

    def states(self) -> dict[str, BGPSessionStatus]:
        """Peer -> how its session stands."""
        bfd = self._bfd.status()
        return {
            name: native_report(self._node, status, bfd.get(name), self._moments.of(name))
            for name, status in sorted(self._speaker.status().items())
        }

    def paths(self) -> dict[str, BfdStatus]:
        """Peer -> its BFD session, for those that have one."""
        return self._bfd.status()

    def samples(self) -> Iterator[metrics.Sample]:
        """The metrics of the sessions, under MetalLB's labels."""
        reports = self.states()
        labels = session_labels(self._peers)
        for name, status in self._speaker.status().items():
            if name in labels:
                yield from session_samples(reports[name], labels[name])
                yield from message_samples(status.sent, status.received, labels[name])
        for link in self._speaker.neighborhoods().values():
            yield metrics.RA_NEIGHBOR.sample(link.neighbor is not None, link.interface)
            yield metrics.RA_SENT.sample(link.sent, link.interface)
            yield metrics.RA_HEARD.sample(link.heard, link.interface)
            yield metrics.RA_REFUSED.sample(link.refused, link.interface)
            yield metrics.RA_STRANGERS.sample(link.strangers, link.interface)
        yield from self._bfd.samples()

    @property
    def neighborhoods(self) -> object:
        """What `/debug/snapshot` shows of the links with unnumbered peers, by interface."""
        return {
            name: {**msgspec.structs.asdict(link), "neighbor": str(link.neighbor or "")}
            for name, link in self._speaker.neighborhoods().items()
        }

    @property
    def listener(self) -> object:
        """What `/debug/snapshot` shows of the port for peers; None when there is none."""
        return self._speaker.listener_status()

    def shown(self) -> dict[str, object]:
        """What `/debug/snapshot` shows of the sessions."""
        return dict(self.states())
