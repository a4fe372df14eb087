"""The BGP sessions of one node: planned peers and routes go in, states and counts come out."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from clarion.base import limits
from clarion.base.addr import Prefix
from clarion.daemons.bfd import BfdWatch
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.daemons.translate import bgp_route, peer_config
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.bgp import BgpSpeaker
from clarion.edge.pulse import PulseClient
from clarion.edge.routes import on_link
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.config import BfdStatus
from clarion.proto.bgp.config import SessionStatus, State
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
        self._clock = runtime.clock
        self._made = partial(
            BgpSpeaker,
            node_name=node,
            clock=runtime.clock,
            entropy=runtime.entropy,
            port=None,
            on_change=self._on_change,
        )
        self._speaker = self._made()
        self._bfd = BfdWatch(runtime.log, self._path_lost, on_link)
        self._port = port
        self._notices = notices
        self._changed = on_change
        self._peers: set[str] = set()

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
        for name in configs.keys() - self._peers:
            # A peer that is told nothing still learns that this is all (RFC 4724 §2, End-of-RIB).
            self._speaker.set_routes(name, ())
        self._log.info(
            "peers in force",
            peers=sorted(configs),
            added=sorted(configs.keys() - self._peers),
            removed=sorted(self._peers - configs.keys()),
            changed={name: effect.name for name, effect in effects.items() if effect.value},
        )
        self._peers = set(configs)
        self._bfd.set_peers(peers, profiles)
        self._notices.keep(self._peers)
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
        self._peers = set()
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
        self._bfd.learn(peer, status.remote_address if status else None)
        self._notices.report(peer, change)
        self._changed()

    def states(self) -> dict[str, str]:
        """Peer -> state of its session, as operators know it."""
        return {name: str(status.state) for name, status in sorted(self._speaker.status().items())}

    def paths(self) -> dict[str, BfdStatus]:
        """Peer -> its BFD session, for those that have one."""
        return self._bfd.status()

    def samples(self) -> Iterator[metrics.Sample]:
        """The metrics of the sessions, under MetalLB's labels."""
        for status in self._speaker.status().values():
            peer = peer_label(status)
            yield metrics.BGP_SESSION_UP.sample(status.state is State.ESTABLISHED, peer)
            yield metrics.BGP_ESTABLISHED.sample(status.established_count, peer)
            yield metrics.BGP_UPDATES.sample(status.sent.updates, peer)
            yield metrics.BGP_ANNOUNCED.sample(status.prefixes_announced, peer)
            yield metrics.BGP_PENDING.sample(status.prefixes_pending, peer)
        yield from self._bfd.samples()

    @property
    def listener(self) -> object:
        """What `/debug/snapshot` shows of the port for peers; None when there is none."""
        return self._speaker.listener_status()

    def shown(self) -> dict[str, object]:
        """What `/debug/snapshot` shows of the sessions."""
        now = self._clock.monotonic()
        return {
            name: {
                "peer": peer_label(status),
                "state": str(status.state),
                "forSeconds": round(now - status.since, 1),
                "lastError": status.last_error,
                "announced": status.prefixes_announced,
                "pending": status.prefixes_pending,
                "localAddress": str(status.local_address or ""),
                "holdTime": status.hold_time,
                "families": [
                    {"family": str(item.family), "sent": item.sent, "reason": item.reason}
                    for item in status.families
                ],
            }
            for name, status in sorted(self._speaker.status().items())
        }


def peer_label(status: SessionStatus) -> str:
    """Address and port of the peer, as MetalLB labels its metrics; or its interface."""
    address = status.peer_address
    if address is None:
        return status.interface
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{status.peer_port}"
