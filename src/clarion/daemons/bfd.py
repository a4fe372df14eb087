"""The BFD sessions that a node's BGP peers ask for: wanted here, run by the pulse process.

A session that was up and is lost takes its BGP session down at once and nothing else. One that the
other side or the administrator switched off takes nothing down, and neither does a pulse process
that ends: only a path that is known to have failed is a failure.

A session begins a moment after its BGP session is established for the first time. Before that it
would tell nobody anything, the address of an unnumbered peer is not known, and FRR, which makes its
BFD session anew at that moment, would take a first one down and the BGP session with it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import msgspec

from clarion.base.addr import Address
from clarion.base.limits import BFD_SETTLE_SECONDS
from clarion.daemons.sessionsamples import DEFAULT_VRF, distinct
from clarion.daemons.translate import RESTART_SECONDS
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.logs import Log
from clarion.edge.pulse import PulseClient
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.bfd.config import BfdConfig, BfdStatus
from clarion.proto.bfd.demux import Endpoint
from clarion.proto.bfd.packet import State
from clarion.proto.pulse.messages import BfdReport, WatchedSession


class BfdWatch:
    """What is wanted of BFD and how it stands, by BGP peer.

    Args:
        log: For ups and downs.
        fail: Called with a peer and a reason when the path to it is lost.
        on_link: Whether an address, by a device, is reached without a router.
        on_change: Called after a session came into another state.
    """

    def __init__(
        self,
        log: Log,
        fail: Callable[[str, str], None],
        on_link: Callable[[Address, str], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._log = log
        self._fail = fail
        self._on_link = on_link
        self._changed = on_change
        self._pulse: PulseClient | None = None
        self._decided = False
        """The peers are known; until then a new pulse process goes on with what it took over."""
        self._peers: dict[str, Peer] = {}
        self._profiles: Mapping[str, BFDProfileSpec] = {}
        self._seen: dict[str, Address] = {}
        """Peers that were reached, with the addresses at which they were."""
        self._names: dict[str, str] = {}
        """Peer -> name of its session; two peers at one address share it."""
        self._known: dict[str, BfdStatus] = {}

    def attach(self, pulse: PulseClient) -> None:
        """Have the sessions run by this process from now on."""
        self._pulse = pulse
        pulse.on_bfd = self._report
        if self._decided:
            self._refresh()

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Watch the paths to those of these peers that name a profile."""
        self._decided = True
        self._peers = {name: peer for name, peer in peers.items() if peer.bfd_profile}
        self._profiles = profiles
        self._seen = {name: at for name, at in self._seen.items() if name in peers}
        self._refresh()

    def established(self, peer: str, address: Address) -> None:
        """Take note that a BGP session came up, and to which address."""
        loop = asyncio.get_running_loop()
        loop.call_later(BFD_SETTLE_SECONDS, self._reached, peer, address)

    def _reached(self, peer: str, address: Address) -> None:
        if address != self._seen.get(peer):
            self._seen[peer] = address
            self._refresh()

    def status(self) -> dict[str, BfdStatus]:
        """The session of each peer that has one, once the pulse process told of it."""
        return {
            peer: self._known[name] for peer, name in self._names.items() if name in self._known
        }

    def samples(self) -> Iterator[metrics.Sample]:
        """The metrics of the sessions, under MetalLB's names and labels."""
        first: dict[str, str] = {}  # peers that share a session are told of once
        for peer, name in self._names.items():
            first.setdefault(name, peer)
        told = {peer: self._known[name] for name, peer in first.items() if name in self._known}
        labelled = distinct(
            {peer: (status.remote, status.vrf or DEFAULT_VRF) for peer, status in told.items()}
        )
        for peer, labels in labelled.items():
            status = told[peer]
            counts = status.counts
            yield metrics.BFD_SESSION_UP.sample(status.up, *labels)
            yield metrics.BFD_CONTROL_INPUT.sample(counts.control_received, *labels)
            yield metrics.BFD_CONTROL_OUTPUT.sample(counts.control_sent, *labels)
            yield metrics.BFD_ECHO_INPUT.sample(counts.echo_received, *labels)
            yield metrics.BFD_ECHO_OUTPUT.sample(counts.echo_sent, *labels)
            yield metrics.BFD_UPS.sample(status.up_count, *labels)
            yield metrics.BFD_DOWNS.sample(status.down_count, *labels)

    def _refresh(self) -> None:
        """Tell the pulse process what is wanted now."""
        rows: dict[str, WatchedSession] = {}
        self._names = {}
        for peer, settings in sorted(self._peers.items()):
            profile = self._profiles.get(settings.bfd_profile)
            remote = settings.address or self._seen.get(peer)
            if profile is None or remote is None:
                continue
            endpoint = self._endpoint(settings, remote)
            name = _name(endpoint)
            self._names[peer] = name
            row = rows.get(name) or WatchedSession(
                name=name,
                remote=endpoint.remote.packed,
                local=endpoint.local.packed if endpoint.local else b"",
                interface=endpoint.interface,
                vrf=endpoint.vrf,
                multihop=endpoint.multihop,
                outlive=RESTART_SECONDS if settings.graceful_restart else 0.0,
                begin=False,
                config=bfd_config(profile),
            )
            begin = row.begin or peer in self._seen
            rows[name] = msgspec.structs.replace(row, begin=begin)
        self._known = {name: row for name, row in self._known.items() if name in rows}
        if self._pulse is not None:
            self._pulse.watch_bfd(tuple(rows.values()))

    def _endpoint(self, peer: Peer, remote: Address) -> Endpoint:
        """Single hop or multihop as FRR decides it: by `ebgpMultiHop` or, inside an AS, by routing.

        Both sides must decide alike, and most of the others are FRR's or built to match.
        """
        device = peer.interface or peer.vrf
        multihop = peer.ebgp_multihop or (peer.internal and not self._on_link(remote, device))
        if peer.interface or remote.is_link_local:
            multihop = False
        return Endpoint(
            remote=remote,
            local=peer.source_address,
            interface=peer.interface,
            vrf=peer.vrf,
            multihop=multihop,
        )

    def _report(self, report: BfdReport | None) -> None:
        if report is None:
            self._known.clear()  # whatever the next process says first is no change of a path
            return
        told = {name: status.state for name, status in self._known.items()}
        for name, status in report.sessions.items():
            before, self._known[name] = self._known.get(name), status
            was_up = before is not None and before.up
            if status.up and not was_up:
                self._log.info("BFD up", peer=status.remote)
            elif was_up and not status.up:
                self._down(name, status)
        if told != {name: status.state for name, status in self._known.items()}:
            self._changed()

    def _down(self, name: str, status: BfdStatus) -> None:
        reason = status.last_down
        if status.remote_diagnostic:
            reason += f" (of itself it says: {status.remote_diagnostic})"
        self._log.warn("BFD down", peer=status.remote, reason=reason)
        # RFC 5882 §4.2: no action when a side switched BFD off, for the path may be well.
        if State.ADMIN_DOWN in (status.state, status.remote_state):
            return
        for peer in [peer for peer, session in self._names.items() if session == name]:
            self._fail(peer, f"BFD: {reason}")


def bfd_config(profile: BFDProfileSpec) -> BfdConfig:
    """A profile as sessions take it; where it is silent, their defaults hold, which are FRR's."""
    given = {
        "desired_min_tx": _seconds(profile.transmit_interval),
        "required_min_rx": _seconds(profile.receive_interval),
        "detect_multiplier": profile.detect_multiplier,
        "echo": profile.echo_mode,
        "echo_interval": _seconds(profile.echo_interval),
        "passive": profile.passive_mode,
        "minimum_ttl": profile.minimum_ttl,
    }
    settings = {field: value for field, value in given.items() if value is not None}
    return msgspec.structs.replace(BfdConfig(), **settings)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _name(endpoint: Endpoint) -> str:
    """The same text for the same two ends, whatever the peers and profiles are called."""
    parts = (
        str(endpoint.remote),
        endpoint.interface and f"on {endpoint.interface}",
        endpoint.vrf and f"in {endpoint.vrf}",
        f"from {endpoint.local}" if endpoint.local else "",
        "multihop" if endpoint.multihop else "",
    )
    return " ".join(filter(None, parts))
