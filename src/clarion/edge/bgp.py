"""Runs BGP sessions: sockets and timers around the machines of `clarion.proto.bgp`.

Everything happens in callbacks of one asyncio loop; there are no tasks and no queues. A peer has
one timer, at most one connection per direction, and per connection at most one chunk of bytes that
the kernel has not taken yet. All else is state in the session and can still change, so a peer that
reads slowly costs a bounded amount of memory and delays nobody else.
"""

import asyncio
import contextlib
import socket
import zlib
from collections.abc import Callable, Collection, Mapping

import msgspec

from clarion.base.addr import Address, Prefix
from clarion.base.errors import InvalidInputError
from clarion.base.limits import (
    BGP_ACCEPT_BATCH,
    BGP_ACCEPT_PAUSE_SECONDS,
    BGP_CHUNK_BYTES,
    BGP_CLOSING_MAX,
    BGP_LINGER_SECONDS,
    BGP_LISTEN_RETRY_SECONDS,
)
from clarion.base.ports import Clock, Entropy
from clarion.edge import tcp
from clarion.edge.ifaddrs import companions, interface_addresses
from clarion.proto.bgp.adjout import Route
from clarion.proto.bgp.config import (
    ChangeEffect,
    Direction,
    Endpoints,
    PeerConfig,
    SessionStatus,
    change_effect,
)
from clarion.proto.bgp.iana import BGP_PORT, Cease
from clarion.proto.bgp.notify import encode_notification
from clarion.proto.bgp.session import Dial, Drop, Session, StateChanged

OnChange = Callable[[str, StateChanged], None]


class ListenerStatus(msgspec.Struct, frozen=True):
    """Whether peers can connect to us. `errors` says why an IP version is not listened on."""

    port: int
    versions: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()


def default_router_id(node_name: str) -> Address:
    """The identifier of a node without any IPv4 address: from its name, as MetalLB derives it."""
    digest = zlib.crc32(node_name.encode()).to_bytes(4, "little")
    return Address(4, int.from_bytes(digest, "big") or 1)  # RFC 6286 §2.1: never zero


def _why(error: OSError | InvalidInputError) -> str:
    """The reason alone, without number and file name."""
    return getattr(error, "strerror", None) or str(error)


class _Host:
    """What the parts of a speaker share: the loop, the time, and connections that are closing."""

    def __init__(self, node_name: str, clock: Clock, entropy: Entropy) -> None:
        self.loop = asyncio.get_running_loop()
        self.node_name = node_name
        self.clock = clock
        self.entropy = entropy
        self.closing: dict[_Farewell, None] = {}

    def bid_farewell(self, sock: socket.socket, words: bytes) -> None:
        """Write the last words and close, within BGP_LINGER_SECONDS."""
        if len(self.closing) >= BGP_CLOSING_MAX:
            next(iter(self.closing)).close()
        _Farewell(self, sock, words)

    def endpoints(self, sock: socket.socket) -> Endpoints:
        """The addresses of a connection, and those beside them on its interface.

        Raises:
            OSError: the connection is gone already.
        """
        (local, local_port), (remote, remote_port) = tcp.local_name(sock), tcp.remote_name(sock)
        beside = companions(local, interface_addresses())
        return Endpoints(
            local=local,
            remote=remote,
            local_port=local_port,
            remote_port=remote_port,
            next_hop_ipv4=beside.get(4),
            next_hop_ipv6=beside.get(6),
            router_id=beside.get(4) or default_router_id(self.node_name),
        )


class _Farewell:
    """A connection on its way out.

    Closing at once would send a reset when the peer has bytes under way, and the reset would
    overtake the NOTIFICATION; so the last words are written, our side is shut, and what still
    arrives is read and dropped until the peer closes too or time is up.
    """

    def __init__(self, host: _Host, sock: socket.socket, words: bytes) -> None:
        self._host, self._sock, self._words = host, sock, words
        self.done: asyncio.Future[None] = host.loop.create_future()
        host.closing[self] = None
        self._timer = host.loop.call_later(BGP_LINGER_SECONDS, self.close)
        host.loop.add_reader(sock, self._read)
        self._write()

    def _write(self) -> None:
        loop = self._host.loop
        try:
            while self._words:
                self._words = self._words[self._sock.send(self._words) :]
            loop.remove_writer(self._sock)
            self._sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            loop.add_writer(self._sock, self._write)
        except OSError:
            self.close()

    def _read(self) -> None:
        try:
            if not self._sock.recv(BGP_CHUNK_BYTES):
                self.close()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """Close now."""
        self._host.closing.pop(self, None)
        self._timer.cancel()
        self._host.loop.remove_reader(self._sock)
        self._host.loop.remove_writer(self._sock)
        self._sock.close()
        if not self.done.done():
            self.done.set_result(None)


class _Link:
    """A TCP connection of a peer and the bytes that the kernel has not taken."""

    def __init__(self, sock: socket.socket, direction: Direction) -> None:
        self.sock = sock
        self.direction = direction
        self.connected = False
        self.waiting = b""


class _Peer:
    """Drives one session."""

    def __init__(self, host: _Host, config: PeerConfig, on_change: OnChange | None) -> None:
        self._host = host
        self._on_change = on_change
        self._links: dict[Direction, _Link] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.session = Session(config, host.clock.monotonic())

    # -- from the speaker ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect and to accept."""
        self.session.start(self._now())
        self._pump()

    def stop(self, subcode: Cease, communication: str = "") -> None:
        """End the session for good."""
        self.session.stop(self._now(), subcode, communication)
        self._pump()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def configure(self, config: PeerConfig) -> None:
        """Take over what needs no reset."""
        self.session.configure(config, self._now())
        self._pump()

    def set_routes(self, routes: Collection[Route]) -> None:
        """Replace the routes."""
        self.session.set_routes(routes)
        self._pump()

    def change_routes(self, changes: Mapping[Prefix, Route | None]) -> None:
        """Change the routes of these prefixes only."""
        self.session.change_routes(changes)
        self._pump()

    def accept(self, sock: socket.socket) -> None:
        """The peer has connected."""
        now = self._now()
        refusal = self.session.admit(now)
        self._pump()
        if refusal is not None:
            self._host.bid_farewell(sock, encode_notification(refusal))
            return
        try:
            tcp.configure(sock, self.session.config.peer_address.version, self._options())
        except OSError as error:
            sock.close()
            self.session.lost(Direction.INCOMING, f"cannot set up a connection: {_why(error)}", now)
            self._pump()
            return
        self._attach(_Link(sock, Direction.INCOMING))

    # -- the loop calls --------------------------------------------------------------------------

    def _now(self) -> float:
        self.session.jitter = self._host.entropy.random()
        return self._host.clock.monotonic()

    def _pump(self) -> None:
        """After every call of the session: do what it asks, send what it has, set its timer."""
        while outputs := self.session.outputs():
            for output in outputs:
                if isinstance(output, Dial):
                    self._dial()
                elif isinstance(output, Drop):
                    self._drop(output)
                elif self._on_change is not None:
                    self._host.loop.call_soon(self._on_change, self.session.config.name, output)
        for link in list(self._links.values()):
            if not link.waiting and self.session.wants_write(link.direction):
                self._host.loop.add_writer(link.sock, self._writable, link)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.session.next_deadline()
        if deadline is None:
            self._timer = None
        else:
            delay = max(0.0, deadline - self._host.clock.monotonic())
            self._timer = self._host.loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        # If this process stood still, what the peer sent meanwhile is still unread: hear it before
        # judging the peer silent.
        for link in list(self._links.values()):
            if link.connected and self._links.get(link.direction) is link:
                self._readable(link)
        self.session.timers(self._now())
        self._pump()

    def _readable(self, link: _Link) -> None:
        try:
            data = link.sock.recv(BGP_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(link, f"connection lost: {_why(error)}")
            return
        if not data:
            self._lose(link, "the peer closed the connection")
            return
        self.session.receive(link.direction, data, self._now())
        self._pump()

    def _writable(self, link: _Link) -> None:
        """Write one chunk; the loop comes back for the next one after the others had a turn."""
        if not link.waiting:
            link.waiting = self.session.take(link.direction, BGP_CHUNK_BYTES)
        try:
            sent = link.sock.send(link.waiting) if link.waiting else 0
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(link, f"connection lost: {_why(error)}")
            return
        link.waiting = link.waiting[sent:]
        if not link.waiting and not self.session.wants_write(link.direction):
            self._host.loop.remove_writer(link.sock)
        self._pump()

    # -- connections -----------------------------------------------------------------------------

    def _options(self) -> tcp.TcpOptions:
        config = self.session.config
        if config.ttl_security:  # RFC 5082 §3: send 255, accept what came no further
            return tcp.TcpOptions(
                ttl=255, min_ttl=256 - config.ttl_security, interface=config.interface
            )
        # An external peer is on the link unless multihop says otherwise: TTL 1 keeps it there.
        near = config.maybe_external and not config.ebgp_multihop
        return tcp.TcpOptions(ttl=1 if near else 0, interface=config.interface)

    def _dial(self) -> None:
        config = self.session.config
        try:
            sock = tcp.dial(
                config.peer_address,
                config.peer_port,
                source=config.source_address,
                password=config.password,
                options=self._options(),
            )
        except (OSError, InvalidInputError) as error:
            self._fail_dial(_why(error))
            return
        link = _Link(sock, Direction.OUTGOING)
        self._links[Direction.OUTGOING] = link
        self._host.loop.add_writer(sock, self._dialled, link)

    def _fail_dial(self, reason: str) -> None:
        config = self.session.config
        where = f"{config.peer_address} port {config.peer_port}"
        if config.source_address is not None:
            where += f" from {config.source_address}"
        self.session.lost(Direction.OUTGOING, f"cannot connect to {where}: {reason}", self._now())

    def _dialled(self, link: _Link) -> None:
        self._host.loop.remove_writer(link.sock)
        reason = tcp.dial_error(link.sock)
        if reason:
            self._detach(link).close()
            self._fail_dial(reason)
            self._pump()
        else:
            self._attach(link)

    def _attach(self, link: _Link) -> None:
        """A connection is there: tell the session and listen to it."""
        self._links[link.direction] = link
        link.connected = True
        try:
            endpoints = self._host.endpoints(link.sock)
        except OSError as error:
            self._lose(link, f"connection lost: {_why(error)}")
            return
        self._host.loop.add_reader(link.sock, self._readable, link)
        self.session.connected(link.direction, endpoints, self._now())
        self._pump()

    def _lose(self, link: _Link, reason: str) -> None:
        self._detach(link).close()
        self.session.lost(link.direction, reason, self._now())
        self._pump()

    def _detach(self, link: _Link) -> socket.socket:
        if self._links.get(link.direction) is link:
            del self._links[link.direction]
        self._host.loop.remove_reader(link.sock)
        self._host.loop.remove_writer(link.sock)
        return link.sock

    def _drop(self, output: Drop) -> None:
        link = self._links.get(output.direction)
        if link is None:
            return
        sock = self._detach(link)
        if link.connected:
            self._host.bid_farewell(sock, link.waiting + output.last_words)
        else:
            sock.close()


class _Listener:
    """Accepts connections for all peers. A port that cannot be bound is tried again later."""

    def __init__(self, host: _Host, port: int, accept: Callable[[socket.socket], None]) -> None:
        self._host = host
        self._port = port
        self._accept = accept
        self._socks: dict[int, socket.socket] = {}
        self._errors: dict[int, str] = {}
        self._keys: dict[Address, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def status(self) -> ListenerStatus:
        """Where we listen."""
        return ListenerStatus(self._port, tuple(self._socks), tuple(self._errors.values()))

    def open(self) -> None:
        """Bind what is not bound yet."""
        self._timer = None
        for version in (4, 6):
            if version in self._socks:
                continue
            try:
                sock = tcp.listen(version, self._port)
            except OSError as error:
                reason = f"IPv{version} port {self._port}: {_why(error)}"
                self._errors[version] = reason
                continue
            self._errors.pop(version, None)
            self._socks[version] = sock
            for address, password in self._keys.items():
                self._set_key(address, password)
            self._host.loop.add_reader(sock, self._ready, sock)
        if self._errors:
            self._timer = self._host.loop.call_later(BGP_LISTEN_RETRY_SECONDS, self.open)

    def set_keys(self, keys: dict[Address, str]) -> None:
        """Demand signatures of exactly these peers (RFC 2385)."""
        for address in self._keys.keys() - keys.keys():
            self._set_key(address, "")
        for address, password in keys.items():
            if self._keys.get(address) != password:
                self._set_key(address, password)
        self._keys = dict(keys)

    def _set_key(self, address: Address, password: str) -> None:
        sock = self._socks.get(address.version)
        if sock is None:
            return
        # A key that cannot be set is reported by the session, which meets the same refusal when it
        # connects; without a key here the peer's signed connections are not answered.
        with contextlib.suppress(OSError, InvalidInputError):
            tcp.set_md5_key(sock, address, password)

    def _ready(self, listener: socket.socket) -> None:
        for _ in range(BGP_ACCEPT_BATCH):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # out of descriptors or memory: the connection waits, and so do we
                self._host.loop.remove_reader(listener)
                self._host.loop.call_later(BGP_ACCEPT_PAUSE_SECONDS, self._listen_on, listener)
                return
            self._accept(sock)

    def _listen_on(self, listener: socket.socket) -> None:
        if listener in self._socks.values():
            self._host.loop.add_reader(listener, self._ready, listener)

    def close(self) -> None:
        """Stop to listen."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._socks.values():
            self._host.loop.remove_reader(sock)
            sock.close()
        self._socks.clear()


class BgpSpeaker:
    """BGP sessions with a set of peers. Create and use it in the thread of a running loop.

    Args:
        node_name: Gives the BGP identifier of last resort.
        clock: The time.
        entropy: Spreads timers.
        port: Where peers may connect to us; None to open connections only.
        on_change: Called from the loop with a peer's name after each change of its state.
    """

    def __init__(
        self,
        *,
        node_name: str,
        clock: Clock,
        entropy: Entropy,
        port: int | None = BGP_PORT,
        on_change: OnChange | None = None,
    ) -> None:
        self._host = _Host(node_name, clock, entropy)
        self._on_change = on_change
        self._peers: dict[str, _Peer] = {}
        self._listener: _Listener | None = None
        self.listen(port)

    def listen(self, port: int | None) -> None:
        """Let peers connect to this port from now on; None: to none. Connections there are stay."""
        if port == (self._listener.status.port if self._listener else None):
            return
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if port is not None:
            self._listener = _Listener(self._host, port, self._incoming)
            self._listener.open()
            self._set_keys([peer.session.config for peer in self._peers.values()])

    def set_peers(self, peers: Mapping[str, PeerConfig]) -> dict[str, ChangeEffect]:
        """Make these the configured peers.

        A session that a change does not concern goes on; `change_effect` says what each change
        does. A peer that is new or was reset keeps the routes that `set_routes` gave its name.

        Returns:
            What happened to peers that were there before and still are.
        """
        effects: dict[str, ChangeEffect] = {}
        self._set_keys(peers.values())
        for name in self._peers.keys() - peers.keys():
            self._peers.pop(name).stop(Cease.PEER_DE_CONFIGURED)
        for name, config in peers.items():
            peer = self._peers.get(name)
            if peer is None:
                self._add(name, config, ())
                continue
            effect = effects[name] = change_effect(peer.session.config, config)
            if effect is ChangeEffect.RESET:
                peer.stop(Cease.OTHER_CONFIGURATION_CHANGE)
                self._add(name, config, peer.session.routes)
            elif effect is not ChangeEffect.NONE:
                peer.configure(config)
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
        return self._listener.status if self._listener else None

    async def stop(self, communication: str = "") -> None:
        """End all sessions with Cease/Administrative Shutdown (RFC 4486) and close everything.

        Args:
            communication: Words for the operators of the peers (RFC 9003); up to 255 octets.
        """
        if self._listener is not None:
            self._listener.close()
        for peer in self._peers.values():
            peer.stop(Cease.ADMINISTRATIVE_SHUTDOWN, communication)
        self._peers.clear()
        while self._host.closing:  # each ends by itself within BGP_LINGER_SECONDS
            await next(iter(self._host.closing)).done

    def _add(self, name: str, config: PeerConfig, routes: Collection[Route]) -> None:
        peer = self._peers[name] = _Peer(self._host, config, self._on_change)
        if routes:
            peer.set_routes(routes)
        peer.start()

    def _set_keys(self, peers: Collection[PeerConfig]) -> None:
        if self._listener is not None:
            keys = {peer.peer_address: peer.password for peer in peers if peer.password}
            self._listener.set_keys(keys)

    def _incoming(self, sock: socket.socket) -> None:
        """Hand a new connection to the peer of its address; of several, to the least advanced."""
        try:
            remote, _ = tcp.remote_name(sock)
        except OSError:
            sock.close()
            return
        known = (
            peer for peer in self._peers.values() if peer.session.config.peer_address == remote
        )
        peer = min(known, key=lambda candidate: candidate.session.state, default=None)
        if peer is None:  # RFC 4271 §8.2.1: nobody configured, so nothing is said
            sock.close()
        else:
            peer.accept(sock)
