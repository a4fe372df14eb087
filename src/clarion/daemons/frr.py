"""The back end `frr`: an FRR beside the speaker, which is Clarion's alone, speaks BGP and BFD.

What FRR runs is read before every change, so a speaker that starts anew, or an FRR that does, costs
no session that is as it should be. Nothing is taken back when the speaker stops.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clarion.base import limits
from clarion.base.addr import Prefix
from clarion.daemons.backends import Asked
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.daemons.sessionreports import FrrSession, Moments, frr_session
from clarion.daemons.sessionsamples import (
    DEFAULT_VRF,
    distinct,
    message_samples,
    session_labels,
    session_samples,
)
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import GRACEFUL_SHUTDOWN, ExtendedCommunity, format_community
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import Fact
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.frr import FrrError, Refusal, Vty
from clarion.edge.pulse import PulseClient
from clarion.edge.tasks import OnExit
from clarion.model.metallb import BFDProfileSpec
from clarion.model.sessions import UNKNOWN, BGPSessionStatus, SessionEvent
from clarion.proto.bgp.config import State
from clarion.proto.bgp.session import StateChanged
from clarion.proto.frr.config import (
    BfdProfile,
    FrrConfig,
    Neighbor,
    Route,
    Router,
    bfd_tree,
    bgp_tree,
    identity,
    zebra_tree,
)
from clarion.proto.frr.delta import Step, about, masked, parse, steps

Routes = Mapping[Prefix, AdvertisedRoute]
_Paths = Sequence[Mapping[str, Any]]
_STATES = {str(state): state for state in State}
_NOT_ASKED = "FRR was not asked yet"
_DEFAULT_PORT = 179
_BFD_COUNTS = (
    ("control-packet-input", metrics.BFD_CONTROL_INPUT),
    ("control-packet-output", metrics.BFD_CONTROL_OUTPUT),
    ("echo-packet-input", metrics.BFD_ECHO_INPUT),
    ("echo-packet-output", metrics.BFD_ECHO_OUTPUT),
    ("session-up", metrics.BFD_UPS),
    ("session-down", metrics.BFD_DOWNS),
    ("zebra-notifications", metrics.BFD_ZEBRA),
)


class FrrBackend:
    """Keeps an FRR as it was decided, and reads back what its sessions do.

    Args:
        runtime: The surroundings.
        node: Name of this node.
        folder: Where the sockets of FRR's daemons are.
        notices: Tells of ups and downs.
        on_change: Called after each change of a session.
    """

    ends_sessions = False

    def __init__(
        self,
        runtime: Runtime,
        node: str,
        folder: Path,
        notices: SessionNotices,
        on_change: Callable[[], None],
    ) -> None:
        self._log = runtime.log
        self._clock = runtime.clock
        self._node = node
        self._namespace = runtime.namespace
        self._whole = ObjectRef("Node", "", node)
        self._moments = Moments(runtime.clock)
        self._folder = folder
        self._notices = notices
        self._changed = on_change
        self._asked = Asked()
        self._seen: dict[str, FrrSession] = {}
        self._paths: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self._problems: tuple[Problem, ...] = ()
        self._failure = _NOT_ASKED
        self._stale = False
        self._wake = asyncio.Event()
        runtime.checks.append(self._missing)
        self._task = runtime.tasks.start("frr", self._run, OnExit.RESTART)

    def begin(self, *, restarted: bool) -> None:
        """Nothing to do: FRR's sessions do not notice when this program starts."""

    def attach(self, pulse: PulseClient) -> None:
        """FRR watches the paths itself."""

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Make these the peers; sessions that are not concerned go on."""
        self._asked.set_peers(peers, profiles)
        self._notices.keep(set(peers))
        self._moments.keep(peers)
        self._log.info("peers in force", peers=sorted(peers))
        self._mark()

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        """Tell a peer what changed; None withdraws."""
        self._asked.change_routes(peer, changes)
        self._mark()

    def _mark(self) -> None:
        self._stale = True
        self._wake.set()

    async def stop(self, *, keep_routes: bool) -> None:
        """End the talk with FRR, which goes on announcing until it ends itself."""
        del keep_routes  # they stay in any case
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        self._stale = True  # also when this task ended in the middle of something
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.FRR_LOOK_SECONDS):
                    await self._wake.wait()
                    await asyncio.sleep(limits.FRR_GATHER_SECONDS)
            self._wake.clear()
            if self._asked.peers is not None:
                await self._tend(self._asked.peers)

    async def _tend(self, peers: dict[str, Peer]) -> None:
        """Bring FRR up to date if it is not, and look at the sessions."""
        try:
            if self._stale:
                self._stale = False
                await self._apply(peers)
            seen = await self._look(peers)
        except FrrError as error:
            self._stale = True
            news = error.message != self._failure
            if news:
                self._log.error("FRR cannot be used; trying again", error=error.message)
            self._failure = error.message
            self._take_over({}, news=news)
        else:
            if self._failure:
                self._log.info("FRR answers")
            news, self._failure = self._failure != "", ""
            self._take_over(seen, news=news)

    async def _apply(self, peers: dict[str, Peer]) -> None:
        lacking = {name: unfit(peer) for name, peer in peers.items()}
        fit = {name: peer for name, peer in peers.items() if not lacking[name]}
        config = frr_config(fit, self._asked.profiles, self._asked.routes)
        async with Vty(self._folder, "zebra") as zebra:
            running = (await zebra.running()).splitlines()
            # Since FRR 10 zebra refuses these lines: they are its default there.
            await zebra.configure(Step((), line) for line in zebra_tree() if line not in running)
        refusals = await self._apply_bfd(config)
        async with Vty(self._folder, "bgpd") as bgpd:
            # Thousands of prefixes take tenths of a second, in which the loop has other work.
            todo = await asyncio.to_thread(_todo, await bgpd.running(), config)
            refusals += await bgpd.configure(todo)
        self._log.debug("FRR told", lines=len(todo), refused=len(refusals))
        left_out = [
            Problem(
                code="frr-cannot-hold",
                object=ObjectRef("BGPPeer", self._namespace, name),
                path=f"spec.{field}",
                facts={"field": field},
            )
            for name, field in lacking.items()
            if field
        ]
        self._tell([*left_out, *self._refused(fit, refusals)])
        self._stale |= bool(refusals)

    async def _apply_bfd(self, config: FrrConfig) -> list[Refusal]:
        try:
            async with Vty(self._folder, "bfdd") as bfdd:
                return await bfdd.configure(steps(parse(await bfdd.running()), bfd_tree(config)))
        except FrrError:
            if config.profiles:
                raise
            return []  # who uses no BFD needs no bfdd

    def _refused(self, peers: Mapping[str, Peer], refusals: list[Refusal]) -> list[Problem]:
        """What FRR did not take, as problems of the objects that asked for it; one for each."""
        names = {identity(peer.target, peer.vrf): name for name, peer in peers.items()}
        found: dict[ObjectRef, Problem] = {}
        for refusal in refusals:
            what = self._object(refusal.step, names)
            # FRR repeats a line that it does not understand, password and all.
            facts: dict[str, Fact] = {
                "line": masked(refusal.step.line),
                "answer": masked(refusal.answer),
            }
            found.setdefault(what, Problem(code="frr-refuses", object=what, facts=facts))
        return list(found.values())

    def _object(self, step: Step, names: Mapping[str, str]) -> ObjectRef:
        """The object that a line stems from: a peer, a profile, or all that this node runs."""
        profile = next(
            (line for line in (*step.path, step.line) if line.startswith("profile ")), ""
        )
        if profile:
            return ObjectRef("BFDProfile", self._namespace, profile.removeprefix("profile "))
        peer = names.get(about(step, names))
        return ObjectRef("BGPPeer", self._namespace, peer) if peer else self._whole

    def _tell(self, problems: Sequence[Problem]) -> None:
        """Tell of the problems that are new, and that some are solved."""
        problems = tuple(sorted(problems, key=lambda item: item.order))
        if problems == self._problems:
            return
        for problem in problems:
            if problem not in self._problems:
                what, why = problem.object, problem.message
                self._log.error("FRR cannot do what is asked", object=str(what), problem=why)
                if what.kind == "BGPPeer":
                    self._notices.report(what.name, StateChanged(State.IDLE, State.IDLE, why))
        self._problems = problems
        self._changed()

    async def _look(self, peers: Mapping[str, Peer]) -> dict[str, FrrSession]:
        """Read the states of the sessions; a neighbour that FRR lost is told again."""
        async with Vty(self._folder, "bgpd") as bgpd:
            shown = await bgpd.show("show bgp vrf all neighbors json") if peers else {}
        now = self._clock.monotonic()
        paths, counters = await self._look_at_paths(peers)
        seen: dict[str, FrrSession] = {}
        self._paths = {}
        for name, peer in peers.items():
            entry = shown.get(peer.vrf or DEFAULT_VRF, {}).get(peer.target)
            if isinstance(entry, dict):
                when = self._moments.of(name)
                path = _path_of(peer, entry, paths)
                if path:
                    self._paths[name] = path, _path_of(peer, entry, counters)
                seen[name] = frr_session(self._node, peer, entry, path, when, now)
            else:
                self._stale = True
        return seen

    async def _look_at_paths(self, peers: Mapping[str, Peer]) -> tuple[_Paths, _Paths]:
        """FRR's words about all BFD sessions, and its counts of them."""
        if not any(peer.bfd_profile for peer in peers.values()):
            return (), ()
        async with Vty(self._folder, "bfdd") as bfdd:
            return (
                await bfdd.show("show bfd peers json"),
                await bfdd.show("show bfd peers counters json"),
            )

    def _take_over(self, seen: dict[str, FrrSession], *, news: bool) -> None:
        before, self._seen = self._seen, seen
        for name, now in seen.items():
            old = before[name].report.state if name in before else str(State.IDLE)
            state = now.report.state
            if old != state:
                self._log.info("session", peer=name, state=state, before=old, reason=now.reason)
                was, is_ = (_STATES.get(item, State.IDLE) for item in (old, state))
                self._notices.report(name, StateChanged(was, is_, now.reason))
        reports = [{name: item.report for name, item in all_.items()} for all_ in (before, seen)]
        if news or reports[0] != reports[1]:
            self._changed()

    def _missing(self) -> Iterable[str]:
        if self._failure:
            yield f"FRR: {self._failure}"

    def problems(self) -> Sequence[Problem]:
        """What FRR refused or cannot be told, as problems of the objects that ask for it."""
        return self._problems

    def states(self) -> dict[str, BGPSessionStatus]:
        """Peer -> how its session stands, as FRR tells it, or that FRR tells nothing."""
        if self._failure and self._failure != _NOT_ASKED:
            error = SessionEvent(text=self._failure)
            return {
                name: BGPSessionStatus(
                    node=self._node, peer=name, vrf=peer.vrf, state=UNKNOWN, last_error=error
                )
                for name, peer in sorted((self._asked.peers or {}).items())
            }
        return {
            name: self._with_pending(name, seen.report) for name, seen in sorted(self._seen.items())
        }

    def _with_pending(self, name: str, report: BGPSessionStatus) -> BGPSessionStatus:
        """FRR tells what it sent; what it is to send is known here."""
        counts, peer = report.prefixes, (self._asked.peers or {}).get(name)
        if counts is None or peer is None:
            return report
        told = sum(prefix.version in peer.families for prefix in self._asked.routes.get(name, ()))
        counts = msgspec.structs.replace(counts, pending=max(0, told - (counts.announced or 0)))
        return msgspec.structs.replace(report, prefixes=counts)

    def samples(self) -> Iterator[metrics.Sample]:
        """The metrics of the sessions, under MetalLB's labels."""
        yield metrics.FRR_ANSWERS.sample(not self._failure)
        yield metrics.FRR_REFUSED.sample(len({item.object for item in self._problems}))
        reports = self.states()
        for name, labels in session_labels(self._asked.peers or {}).items():
            seen = self._seen.get(name)
            if seen is None:
                yield metrics.BGP_SESSION_UP.sample(0, *labels)
                continue
            yield from session_samples(reports[name], labels)
            yield from message_samples(seen.sent, seen.received, labels)
        yield from self._path_samples()

    def _path_samples(self) -> Iterator[metrics.Sample]:
        labelled = distinct(
            {
                name: (path["peer"], path.get("vrf", DEFAULT_VRF))
                for name, (path, _) in self._paths.items()
            }
        )
        for name, labels in labelled.items():
            path, counts = self._paths[name]
            yield metrics.BFD_SESSION_UP.sample(path.get("status") == "up", *labels)
            for key, family in _BFD_COUNTS:
                if key in counts:
                    yield family.sample(counts[key], *labels)

    @property
    def neighborhoods(self) -> object:
        """None: FRR learns who is there."""
        return None

    @property
    def listener(self) -> object:
        """None: FRR has the port, if anybody."""
        return None

    def shown(self) -> dict[str, object]:
        """What `/debug/snapshot` shows of the sessions."""
        return dict(self.states())


def _todo(running: str, config: FrrConfig) -> list[Step]:
    return steps(parse(running), bgp_tree(config))


def unfit(peer: Peer) -> str:
    """The field with which a peer cannot be put into FRR's lines; empty if it can."""
    words = {
        "password": peer.password,
        "interface": peer.interface,
        "vrf": peer.vrf,
        "bfdProfile": peer.bfd_profile,
    }
    for field, value in words.items():
        if any(c.isspace() or not c.isprintable() for c in value):
            return field
    return ""


def frr_config(
    peers: Mapping[str, Peer],
    profiles: Mapping[str, BFDProfileSpec],
    routes: Mapping[str, Routes],
) -> FrrConfig:
    """What was decided, as FRR takes it."""
    by_vrf: dict[str, list[tuple[str, Peer]]] = {}
    for name, peer in sorted(peers.items()):
        by_vrf.setdefault(peer.vrf, []).append((name, peer))
    routers = []
    for vrf, members in by_vrf.items():
        first = members[0][1]  # the decision refuses others that differ in these
        neighbors = tuple(_neighbor(peer, routes.get(name, {})) for name, peer in members)
        router_id = str(first.router_id or "")
        made = Router(asn=first.my_asn, vrf=vrf, router_id=router_id, neighbors=neighbors)
        routers.append(made)
    return FrrConfig(
        routers=tuple(routers),
        profiles=tuple(_profile(name, spec) for name, spec in sorted(profiles.items())),
    )


def _neighbor(peer: Peer, routes: Routes) -> Neighbor:
    hold, keepalive = peer.hold_time, peer.keepalive_time
    return Neighbor(
        target=peer.target,
        interface=peer.address is None,
        remote_as=peer.dynamic_asn or str(peer.peer_asn),
        local_as=peer.local_asn,
        port=0 if peer.port == _DEFAULT_PORT else peer.port,
        timers=None if hold is None or keepalive is None else (int(keepalive), int(hold)),
        connect=None if peer.connect_time is None else int(peer.connect_time),
        password=peer.password,
        source=str(peer.source_address or ""),
        multihop=peer.ebgp_multihop,
        hops=peer.ttl_security,
        prefixes=peer.max_prefixes,
        nearby=peer.families == {6} and not peer.internal and not peer.ebgp_multihop,
        graceful_restart=peer.graceful_restart,
        bfd=peer.bfd_profile,
        families=peer.families,
        routes=tuple(map(_route, routes.values())),
    )


def _route(route: AdvertisedRoute) -> Route:
    # RFC 8326 §4.2: 0, where FRR would set 100 of itself. An unset preference is FRR's choice.
    sheds = GRACEFUL_SHUTDOWN in route.communities
    extended = map(ExtendedCommunity, route.extended_communities)
    return Route(
        route.prefix,
        route.local_pref if route.local_pref or sheds else None,
        route.communities,
        route.large_communities,
        # Others than `rt` and `soo` are a problem of the advertisement: FRR has no words for them.
        tuple(_pair(item) for item in extended if item.kind),
        route.weight,  # a weight of 1 is 1 Mbit/s
    )


def _pair(community: ExtendedCommunity) -> tuple[str, str]:
    kind, _, value = format_community(community).partition(":")
    return kind, value


def _profile(name: str, spec: BFDProfileSpec) -> BfdProfile:
    return BfdProfile(
        name=name,
        receive_ms=spec.receive_interval,
        transmit_ms=spec.transmit_interval,
        detect_multiplier=spec.detect_multiplier,
        echo_ms=spec.echo_interval,
        echo=bool(spec.echo_mode),
        passive=bool(spec.passive_mode),
        minimum_ttl=spec.minimum_ttl,
    )


def _path_of(peer: Peer, entry: Mapping[str, Any], paths: _Paths) -> Mapping[str, Any]:
    """What bfdd says of the path to a peer; nothing if it says nothing.

    Two links may have the same link-local address at their other ends.
    """
    place = peer.vrf or DEFAULT_VRF, str(peer.address or entry.get("bgpNeighborAddr", ""))
    for item in paths:
        if place == (item.get("vrf", DEFAULT_VRF), item.get("peer", "")) and (
            not peer.interface or item.get("interface", peer.interface) == peer.interface
        ):
            return item
    return {}
