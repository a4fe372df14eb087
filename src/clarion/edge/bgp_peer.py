"""Drives one BGP session: its timer, at most one connection per direction, and their bytes."""

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping

from clarion.base.addr import Address, Prefix
from clarion.base.errors import InvalidInputError
from clarion.base.limits import BGP_CHUNK_BYTES
from clarion.edge import tcp
from clarion.edge.bgp_host import Host, why
from clarion.proto.bgp.config import Direction, PeerConfig
from clarion.proto.bgp.iana import Cease
from clarion.proto.bgp.notify import encode_notification
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.session import Dial, Drop, Session, StateChanged

OnChange = Callable[[str, StateChanged], None]


class Link:
    """A TCP connection of a peer and the bytes that the kernel has not taken."""

    def __init__(self, sock: socket.socket, direction: Direction) -> None:
        self.sock = sock
        self.direction = direction
        self.connected = False
        self.writing = False
        self.waiting = b""


class PeerDriver:
    """Drives one session; `restarted_at` is that of `Session`."""

    def __init__(
        self,
        host: Host,
        config: PeerConfig,
        on_change: OnChange | None,
        restarted_at: float | None = None,
    ) -> None:
        self._host = host
        self._on_change = on_change
        self._links: dict[Direction, Link] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._neighbor: Address | None = None
        self._trouble = ""
        self._blocked = False
        self.session = Session(
            config, host.clock.monotonic(), restarted_at=restarted_at, encoder=host.encoder
        )

    # -- from the speaker ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect and to accept."""
        self.session.start(self._now())
        self._pump()

    def stop(self, subcode: Cease, communication: str = "", *, keep_routes: bool = False) -> None:
        """End the session for good."""
        self.session.stop(self._now(), subcode, communication, keep_routes=keep_routes)
        self._pump()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def fail(self, reason: str) -> None:
        """BFD no longer sees the peer."""
        self.session.bfd_down(self._now(), reason)
        self._pump()

    def configure(self, config: PeerConfig) -> None:
        """Take over what needs no reset."""
        self.session.configure(config, self._now())
        self._pump()

    @property
    def remote(self) -> Address | None:
        """Where the peer is, as far as known."""
        return self.session.config.peer_address or self._neighbor

    def set_neighbor(self, address: Address | None, reason: str) -> None:
        """An unnumbered peer is here now, or nobody knows where; its connections end with that."""
        self._trouble = reason
        if address == self._neighbor:
            return
        self._neighbor = address
        for link in list(self._links.values()):
            if not link.connected or not self._leads_to(link, address):
                self._lose(link, reason)
        if address is not None:
            self._retry()

    def _leads_to(self, link: Link, address: Address | None) -> bool:
        try:
            return tcp.remote_name(link.sock)[0] == address
        except OSError:  # the connection is gone already
            return False

    def unblock(self) -> None:
        """Interfaces or addresses changed: an attempt that could not begin may now."""
        if self._blocked:
            self._retry()

    def _retry(self) -> None:
        self.session.retry(self._now())
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
            remote, _ = tcp.remote_name(sock)
            tcp.configure(sock, remote.version, self._options())
        except OSError as error:
            sock.close()
            self.session.lost(Direction.INCOMING, f"cannot set up a connection: {why(error)}", now)
            self._pump()
            return
        self._attach(Link(sock, Direction.INCOMING))

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
            if not link.writing and self.session.wants_write(link.direction):
                # Once only: to ask again would take back a call that is due, so a change in every
                # turn of the loop would keep all of them from the wire.
                link.writing = True
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

    def _readable(self, link: Link) -> None:
        try:
            data = link.sock.recv(BGP_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(link, f"connection lost: {why(error)}")
            return
        if not data:
            self._lose(link, "the peer closed the connection")
            return
        self.session.receive(link.direction, data, self._now())
        self._pump()

    def _writable(self, link: Link) -> None:
        """Write one chunk; the loop comes back for the next one after the others had a turn."""
        if not link.waiting:
            link.waiting = self.session.take(link.direction, BGP_CHUNK_BYTES)
        try:
            sent = link.sock.send(link.waiting) if link.waiting else 0
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(link, f"connection lost: {why(error)}")
            return
        link.waiting = link.waiting[sent:]
        if not link.waiting and not self.session.wants_write(link.direction):
            link.writing = False
            self._host.loop.remove_writer(link.sock)
        self._pump()

    # -- connections -----------------------------------------------------------------------------

    def _options(self) -> tcp.TcpOptions:
        config = self.session.config
        if config.ttl_security:  # RFC 5082 §3: send 255, accept what came no further
            return tcp.TcpOptions(
                ttl=255, min_ttl=256 - config.ttl_security, interface=config.device
            )
        # An external peer is on the link unless multihop says otherwise: TTL 1 keeps it there.
        near = config.maybe_external and not config.ebgp_multihop
        return tcp.TcpOptions(ttl=1 if near else 0, interface=config.device)

    def _dial(self) -> None:
        config, remote = self.session.config, self.remote
        if remote is None:
            self._fail_dial(self._trouble)
            return
        try:
            sock = tcp.dial(
                remote,
                config.peer_port,
                source=config.source_address,
                password=config.password,
                options=self._options(),
            )
        except (OSError, InvalidInputError) as error:
            self._blocked = True
            self._fail_dial(why(error))
            return
        self._blocked = False
        link = Link(sock, Direction.OUTGOING)
        self._links[Direction.OUTGOING] = link
        self._host.loop.add_writer(sock, self._dialled, link)

    def _fail_dial(self, reason: str) -> None:
        config = self.session.config
        where = f"{self.remote or 'the peer'} port {config.peer_port}"
        if config.device:
            where += f" on {config.device}"
        if config.source_address is not None:
            where += f" from {config.source_address}"
        self.session.lost(Direction.OUTGOING, f"cannot connect to {where}: {reason}", self._now())

    def _dialled(self, link: Link) -> None:
        self._host.loop.remove_writer(link.sock)
        reason = tcp.dial_error(link.sock)
        if reason:
            self._detach(link).close()
            self._fail_dial(reason)
            self._pump()
        else:
            self._attach(link)

    def _attach(self, link: Link) -> None:
        """A connection is there: tell the session and listen to it."""
        self._links[link.direction] = link
        link.connected = True
        try:
            endpoints = self._host.endpoints(link.sock, self.session.config.device)
        except OSError as error:
            self._lose(link, f"connection lost: {why(error)}")
            return
        self._host.loop.add_reader(link.sock, self._readable, link)
        self.session.connected(link.direction, endpoints, self._now())
        self._pump()

    def _lose(self, link: Link, reason: str) -> None:
        self._detach(link).close()
        self.session.lost(link.direction, reason, self._now())
        self._pump()

    def _detach(self, link: Link) -> socket.socket:
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
