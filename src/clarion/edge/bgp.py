"""Runs BGP sessions: sockets and timers around the machines of `clarion.proto.bgp`.

Everything happens in callbacks of one asyncio loop; there are no tasks and no queues. A peer has
one timer, at most one connection per direction, and per connection at most one chunk of bytes that
the kernel has not taken yet. All else is state in the session and can still change, so a peer that
reads slowly costs a bounded amount of memory and delays nobody else.
"""

import contextlib
import socket
from collections.abc import Collection, Mapping

from clarion.base.addr import Address, Prefix
from clarion.base.limits import INTERFACES_AGAIN_SECONDS
from clarion.base.ports import Clock, Entropy
from clarion.edge import tcp
from clarion.edge.bgp_host import Host
from clarion.edge.bgp_listener import Listeners, ListenerStatus
from clarion.edge.bgp_neighborhood import Neighborhood, NeighborhoodStatus
from clarion.edge.bgp_peer import OnChange, PeerDriver
from clarion.edge.ifaddrs import InterfaceWatch, interface_addresses
from clarion.proto.bgp.config import (
    ChangeEffect,
    PeerConfig,
    SessionStatus,
    State,
    change_effect,
)
from clarion.proto.bgp.iana import BGP_PORT, Cease
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import StateChanged


class BgpSpeaker:
    """BGP sessions with a set of peers. Create and use it in the thread of a running loop.

    Args:
        node_name: Gives the BGP identifier of last resort.
        clock: The time.
        entropy: Spreads timers.
        port: Where peers may connect to us; None to open connections only.
        on_change: Called from the loop with a peer's name after each change of its state.
        restarted: This program was running before on this node, and the traffic of what it
            announces never stopped since: peers that kept the routes may go on (RFC 4724 §4.1).
    """

    def __init__(
        self,
        *,
        node_name: str,
        clock: Clock,
        entropy: Entropy,
        port: int | None = BGP_PORT,
        on_change: OnChange | None = None,
        restarted: bool = False,
    ) -> None:
        self._host = Host(node_name, clock, entropy)
        self._on_change = on_change
        self._restarted_at = clock.monotonic() if restarted else None
        self._peers: dict[str, PeerDriver] = {}
        self._listeners: Listeners | None = None
        self._neighborhoods: dict[str, Neighborhood] = {}
        self._watch: InterfaceWatch | None = None
        self.listen(port)

    def listen(self, port: int | None) -> None:
        """Let peers connect to this port from now on; None: to none. Connections there are stay."""
        if port == (self._listeners.status.port if self._listeners else None):
            return
        if self._listeners is not None:
            self._listeners.close()
            self._listeners = None
        if port is not None:
            self._listeners = Listeners(self._host, port, self._incoming)
            self._listeners.set_peers([peer.session.config for peer in self._peers.values()])

    def set_peers(self, peers: Mapping[str, PeerConfig]) -> dict[str, ChangeEffect]:
        """Make these the configured peers.

        A session that a change does not concern goes on; `change_effect` says what each change
        does. A peer that is new or was reset keeps the routes that `set_routes` gave its name.

        Returns:
            What happened to peers that were there before and still are.
        """
        effects: dict[str, ChangeEffect] = {}
        if self._listeners is not None:
            self._listeners.set_peers(peers.values())
        self._follow(peers.values())
        for name in self._peers.keys() - peers.keys():
            self._peers.pop(name).stop(Cease.PEER_DE_CONFIGURED)
        for name, config in peers.items():
            peer = self._peers.get(name)
            if peer is None:
                self._add(name, PeerDriver(self._host, config, self._changed, self._restarted_at))
                continue
            effect = effects[name] = change_effect(peer.session.config, config)
            if effect is ChangeEffect.RESET:
                peer.stop(Cease.OTHER_CONFIGURATION_CHANGE)
                successor = PeerDriver(self._host, config, self._changed)
                if peer.session.routes is not None:
                    successor.set_routes(peer.session.routes)
                self._add(name, successor)
            elif effect is not ChangeEffect.NONE:
                peer.configure(config)
        self._leave(peers.values())
        return effects

    def set_routes(self, peer: str, routes: Collection[Route]) -> None:
        """Replace the routes for a peer; what changed goes out as the fewest UPDATEs.

        Raises:
            KeyError: no such peer is configured.
        """
        self._peers[peer].set_routes(routes)

    def change_routes(self, peer: str, changes: Mapping[Prefix, Route | None]) -> None:
        """Change a peer's routes of these prefixes only (None withdraws), at the cost of these.

        Raises:
            KeyError: no such peer is configured.
        """
        self._peers[peer].change_routes(changes)

    def status(self) -> dict[str, SessionStatus]:
        """Every peer as it stands; times are on the monotonic clock."""
        return {name: peer.session.status() for name, peer in self._peers.items()}

    def listener_status(self) -> ListenerStatus | None:
        """Whether peers can connect to us; None when no port was asked for."""
        return self._listeners.status if self._listeners else None

    def neighborhoods(self) -> dict[str, NeighborhoodStatus]:
        """By interface with unnumbered peers, what is known of the other end."""
        return {name: each.status() for name, each in self._neighborhoods.items()}

    def fail(self, peer: str, reason: str) -> None:
        """BFD no longer sees a peer: an established session ends at once, and is tried again.

        Args:
            peer: Its name.
            reason: In words; the status shows it.

        Raises:
            KeyError: no such peer is configured.
        """
        self._peers[peer].fail(reason)

    async def stop(self, communication: str = "", *, keep_routes: bool = False) -> None:
        """End all sessions with Cease/Administrative Shutdown (RFC 4486) and close everything.

        Args:
            communication: Words for the operators of the peers (RFC 9003); up to 255 octets.
            keep_routes: This program starts again soon. Peers with which graceful restart was
                agreed on keep the routes meanwhile; those that would not hear no farewell.
        """
        if self._listeners is not None:
            self._listeners.close()
        for peer in self._peers.values():
            peer.stop(Cease.ADMINISTRATIVE_SHUTDOWN, communication, keep_routes=keep_routes)
        self._peers.clear()
        self._leave(())
        while self._host.closing:  # each ends by itself within BGP_LINGER_SECONDS
            await next(iter(self._host.closing)).done

    def _add(self, name: str, peer: PeerDriver) -> None:
        self._peers[name] = peer
        self._introduce(peer)
        peer.start()

    # -- interfaces ------------------------------------------------------------------------------

    def _follow(self, peers: Collection[PeerConfig]) -> None:
        """Advertise on the interfaces of unnumbered peers; hear of changes that any waits for."""
        unnumbered = {peer.interface for peer in peers if peer.peer_address is None}
        for name in unnumbered - self._neighborhoods.keys():
            self._neighborhoods[name] = self._neighborhood(name)
        if self._watch is None and any(peer.device or peer.source_address for peer in peers):
            with contextlib.suppress(OSError):  # out of descriptors: attempts have timers too
                self._watch = InterfaceWatch(self._look)
        if unnumbered:
            self._look()

    def _leave(self, peers: Collection[PeerConfig]) -> None:
        """Advertise, and follow the interfaces, no more than these peers need."""
        unnumbered = {peer.interface for peer in peers if peer.peer_address is None}
        for name in self._neighborhoods.keys() - unnumbered:
            self._neighborhoods.pop(name).close()
        if self._watch and not any(peer.device or peer.source_address for peer in peers):
            self._watch.close()
            self._watch = None

    def _neighborhood(self, interface: str) -> Neighborhood:
        def on_neighbor(address: Address | None, reason: str) -> None:
            for peer in self._unnumbered(interface):
                peer.set_neighbor(address, reason)

        def settled() -> bool:
            peers = self._unnumbered(interface)
            return any(peer.session.state is State.ESTABLISHED for peer in peers)

        return Neighborhood(self._host, interface, on_neighbor, settled)

    def _unnumbered(self, interface: str) -> list[PeerDriver]:
        return [
            peer
            for peer in self._peers.values()
            if peer.session.config.peer_address is None
            and peer.session.config.interface == interface
        ]

    def _introduce(self, peer: PeerDriver) -> None:
        """Tell an unnumbered peer where it is, or why that is not known."""
        config = peer.session.config
        neighborhood = self._neighborhoods.get(config.interface)
        if config.peer_address is None and neighborhood is not None:
            peer.set_neighbor(neighborhood.neighbor, neighborhood.trouble)

    def _look(self) -> None:
        """Interfaces or addresses changed: sockets, advertisements and attempts follow."""
        if self._neighborhoods:
            try:
                addresses = interface_addresses()
            except OSError:  # out of descriptors or memory: nothing is known, so nothing changes
                self._host.loop.call_later(INTERFACES_AGAIN_SECONDS, self._look)
                return
            for neighborhood in self._neighborhoods.values():
                neighborhood.look(addresses)
        if self._listeners is not None:
            self._listeners.open()
        for peer in self._peers.values():
            self._introduce(peer)
            peer.unblock()

    def _changed(self, name: str, change: StateChanged) -> None:
        peer = self._peers.get(name)
        if peer is not None and change.old is State.ESTABLISHED:
            neighborhood = self._neighborhoods.get(peer.session.config.interface)
            if neighborhood is not None:
                neighborhood.solicit()
        if self._on_change is not None:
            self._on_change(name, change)

    # -- connections of peers --------------------------------------------------------------------

    def _incoming(self, device: str, sock: socket.socket) -> None:
        """Hand a new connection to the peer of its address; of several, to the least advanced."""
        try:
            remote, _ = tcp.remote_name(sock)
            scope = tcp.scope_of(sock)
        except OSError:
            sock.close()
            return
        known = (
            peer
            for peer in self._peers.values()
            if peer.session.config.listening_device == device and _is_from(peer, remote, scope)
        )
        peer = min(known, key=lambda candidate: candidate.session.state, default=None)
        if peer is None:  # RFC 4271 §8.2.1: nobody configured, so nothing is said
            sock.close()
            return
        peer.accept(sock)
        if peer.session.config.peer_address is None:
            self._neighborhoods[peer.session.config.interface].meet(remote)
            self._introduce(peer)


def _is_from(peer: PeerDriver, remote: Address, scope: int) -> bool:
    """Does a connection from this address, link-local on the interface `scope`, come from a peer?

    An unnumbered peer that was not heard yet may be anybody on its link; the OPEN decides.
    """
    config = peer.session.config
    if scope and config.interface:
        with contextlib.suppress(OSError):  # no such interface now: nobody is there
            if socket.if_nametoindex(config.interface) != scope:
                return False
    if config.peer_address is None:
        return bool(scope) and peer.remote in (None, remote)
    return config.peer_address == remote
