"""`clarion speaker`: announces this node's share of the addresses by layer 2 and BGP.

This is the main process: it follows the API, lets the planner decide, feeds the BGP sessions and
the table of its child, `pulse`, which answers ARP and NDP. No decision is made here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from clarion.base import limits
from clarion.base.addr import Address
from clarion.daemons.backends import BgpBackend
from clarion.daemons.configstate import (
    ConfigState,
    problem_line,
    tell_problems,
)
from clarion.daemons.frr import FrrBackend
from clarion.daemons.frrk8s import FrrK8s
from clarion.daemons.inputs import endpoints_read, feed, follow_inputs
from clarion.daemons.liveness import (
    BOOT_ANNOTATION,
    INTERFACES_ANNOTATION,
    LEASE_LABELS,
    LEASE_SELECTOR,
    SESSIONS_ANNOTATION,
    SETTINGS_ANNOTATION,
    SpeakerLiveness,
    lease_name,
)
from clarion.daemons.noderegistry import OwnNode, node_owner
from clarion.daemons.notices import Notices, SessionNotices
from clarion.daemons.runtime import (
    ProgramOptions,
    Runtime,
    freeze_memory,
    serve_until_stopped,
    surroundings,
)
from clarion.daemons.sessionobjects import SessionObjects
from clarion.daemons.sessions import Sessions
from clarion.daemons.statuses import Statuses, slimmed
from clarion.daemons.writer import Writer
from clarion.decide.observed import Observed
from clarion.decide.planner import Changes, Planner
from clarion.decide.problems import Problem
from clarion.decide.snapshot import Backend, Options, Snapshot
from clarion.edge import metrics
from clarion.edge.kubeclient import Selection
from clarion.edge.leases import Heartbeat
from clarion.edge.procid import boot_id
from clarion.edge.pulse import Lapsed, PulseClient, Report, Restarted
from clarion.edge.tasks import OnExit
from clarion.model.annotations import LABEL_COMPONENT_TYPE, LABEL_NODE, LABEL_NODE_NAME
from clarion.model.codec import encode
from clarion.model.core import EndpointSlice, Lease, Node, Service
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import BFDProfileSpec, BGPPeer, ServiceBGPStatus, ServiceL2Status
from clarion.proto.pulse.messages import Configure, Interfaces, Notice

COMPONENT = "metallb-speaker"


class SpeakerOptions(ProgramOptions, frozen=True, kw_only=True):
    """Flags of the speaker.

    Attributes:
        node_name: The node on which it runs.
        register_node: Create the Node object: nobody else does with the embedded API.
        node_labels: Labels for it.
        backend: Who speaks BGP.
        bgp_port: Where peers that are waited for (annotation `passive`) connect to.
        frrk8s_namespace: Where frr-k8s runs; empty: where the configuration lives.
        frr_vty_dir: Where the sockets of FRR's daemons are.
        graceful_shutdown: Seconds between making routes the last choice and withdrawing them when
            this program is asked to stop; 0: it withdraws at once, or leaves them to graceful
            restart. Routes of a cordoned node are made the last choice, too, unless it is 0.
        exclude_interfaces: Regular expressions of interfaces never used for layer 2.
    """

    node_name: str
    register_node: bool = False
    node_labels: tuple[tuple[str, str], ...] = ()
    backend: Backend = "native"
    bgp_port: int = 179
    frrk8s_namespace: str = ""
    frr_vty_dir: str = "/var/run/frr"
    graceful_shutdown: float = 0.0
    ignore_exclude_lb: bool = False
    l2_require_interface: bool = False
    exclude_interfaces: tuple[str, ...] = ()


BackendMaker = Callable[[Runtime, SpeakerOptions, SessionNotices, Callable[[], None]], BgpBackend]


def _native(
    runtime: Runtime, options: SpeakerOptions, told: SessionNotices, on_change: Callable[[], None]
) -> BgpBackend:
    return Sessions(runtime, options.node_name, options.bgp_port, told, on_change)


def _frrk8s(
    runtime: Runtime, options: SpeakerOptions, told: SessionNotices, on_change: Callable[[], None]
) -> BgpBackend:
    return FrrK8s(runtime, options.node_name, options.frrk8s_namespace, told, on_change)


def _frr(
    runtime: Runtime, options: SpeakerOptions, told: SessionNotices, on_change: Callable[[], None]
) -> BgpBackend:
    folder = Path(options.frr_vty_dir)
    return FrrBackend(runtime, options.node_name, folder, told, on_change)


BACK_ENDS: Mapping[Backend, BackendMaker] = {"native": _native, "frr": _frr, "frr-k8s": _frrk8s}
"""Name of a back end -> what makes it; the last argument is called when a session changed."""


class Speaker:
    """What one node announces, kept true."""

    def __init__(self, runtime: Runtime, options: SpeakerOptions) -> None:
        self._runtime = runtime
        self._options = options
        self._node = options.node_name
        self._planner = Planner(
            Options(
                lb_class=options.lb_class,
                ignore_exclude_lb=options.ignore_exclude_lb,
                l2_require_interface=options.l2_require_interface,
                backend=options.backend,
                graceful_shutdown=options.graceful_shutdown > 0,
                namespace=runtime.namespace,
            ),
            node=self._node,
            allocate=False,
        )
        self._heartbeat = Heartbeat(
            runtime.client,
            ObjectKey(runtime.namespace, lease_name(self._node)),
            self._node,
            runtime.clock,
            labels=LEASE_LABELS,
        )
        self._boot = boot_id()
        self._liveness = SpeakerLiveness(self._node, runtime.clock)
        self._alive: frozenset[str] | None = None
        self._interfaces: dict[str, tuple[str, ...]] = {}
        self._unreported: set[ObjectKey] = set()
        self._reports = False
        self._profiles: Mapping[str, BFDProfileSpec] | None = None
        self._wake = asyncio.Event()
        self._updates = 0
        self._lapsed = False
        self._decide: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._table: dict[Address, frozenset[str] | None] = {}
        self._pulse: PulseClient
        self._writer = Writer(runtime.clock, runtime.entropy, runtime.log)
        labels = {LABEL_COMPONENT_TYPE: "speaker", LABEL_NODE_NAME: self._node}
        meta = ObjectMeta(name=f"speaker-{self._node}", namespace=runtime.namespace, labels=labels)
        self._state = ConfigState(
            runtime.client,
            self._writer,
            runtime.clock,
            "configReconcilerValid",
            meta,
            lambda: node_owner(self._nodes.get(ObjectKey("", self._node))),
        )
        self._follow()
        self._notices = Notices(runtime.events, self._node)
        peers = self._informers.store(BGPPeer)
        told = SessionNotices(runtime.events, self._node, runtime.namespace, peers)
        self._sessions = BACK_ENDS[options.backend](runtime, options, told, self._session_changed)
        self._objects = SessionObjects(
            runtime,
            self._writer,
            self._node,
            self._nodes,
            lambda: self._planner.peers,
            self._sessions.states,
        )
        self._own_node = OwnNode(self._node, self._nodes, runtime.log)
        runtime.checks.append(self._own_node.missing)
        runtime.metrics.add(self._samples)

    def _follow(self) -> None:
        informers = self._informers = self._runtime.follow(self._on_delta)
        here = Selection(namespace=self._runtime.namespace)
        follow_inputs(informers, self._runtime.namespace)
        self._services, self._nodes = informers.store(Service), informers.store(Node)
        informers.add(EndpointSlice, keep=endpoints_read)
        informers.add(
            Lease,
            selection=msgspec.structs.replace(here, labels=LEASE_SELECTOR),
            on_delta=self._on_lease,
        )
        l2 = informers.add(
            ServiceL2Status, selection=here, on_delta=self._on_status, guard=None, keep=slimmed
        )
        # Each node writes about each service: those of other nodes would be most of the memory.
        own = msgspec.structs.replace(here, labels=f"{LABEL_NODE}={self._node}")
        bgp = informers.add(
            ServiceBGPStatus, selection=own, on_delta=self._on_status, guard=None, keep=slimmed
        )
        self._statuses = Statuses(
            self._runtime.client,
            self._writer,
            self._runtime.namespace,
            self._node,
            l2.store,
            bgp.store,
            self._nodes,
        )

    async def start(self) -> None:
        """Start announcing.

        Raises:
            OSError: the pulse process cannot be started.
        """
        runtime, options = self._runtime, self._options
        settings = Configure(excluded=options.exclude_interfaces)
        self._pulse = await PulseClient.start(self._on_report, settings)
        self._sessions.attach(self._pulse)
        if options.register_node:
            labels = dict(options.node_labels)
            self._own_node.keep_registered(runtime.client, self._writer, runtime.clock, labels)
        runtime.tasks.start("writer", self._writer.run)
        self._decide = runtime.tasks.start("decide", self._run)

    async def stop(self) -> None:
        """Hand over: others are told first and take over while this node still answers."""
        shed = await self._shed()
        for task in (self._decide, self._beat):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._table:
            await asyncio.sleep(limits.SPEAKER_HANDOVER_SECONDS)
        # BFD outlives BGP: a path that is no longer watched must not end a session by itself.
        await self._sessions.stop(keep_routes=not shed)
        await self._pulse.stop(keep_paths=not shed)

    async def _shed(self) -> bool:
        """Let the traffic of the routes move elsewhere first, where that is asked for.

        Returns:
            Whether that was done. Without it the routes may stay for who starts next.
        """
        seconds = self._options.graceful_shutdown
        deciding = self._decide is not None and not self._decide.done()
        up = any(report.up for report in self._sessions.states().values())
        if not (seconds and deciding and up and self._sessions.ends_sessions):
            return False
        self._runtime.log.info("routes are the last choice before they go", seconds=seconds)
        self._planner.set_stopping([self._node])
        self._wake.set()
        await asyncio.sleep(seconds)
        return True

    # Inputs.

    def _on_delta(
        self, kind: Kind, key: ObjectKey, _old: KubeObject | None, new: KubeObject | None
    ) -> None:
        self._updates += 1
        self._writer.heard()
        feed(self._planner, kind, key, new)
        self._wake.set()

    def _on_lease(
        self, _kind: Kind, key: ObjectKey, _old: KubeObject | None, new: KubeObject | None
    ) -> None:
        self._writer.heard()
        if self._liveness.observe(key.name, new if isinstance(new, Lease) else None):
            self._wake.set()

    def _on_status(
        self, _kind: Kind, _key: ObjectKey, old: KubeObject | None, new: KubeObject | None
    ) -> None:
        service = self._statuses.observe(old, new)
        if service is not None:
            self._unreported.add(service)
            self._wake.set()

    async def _on_report(self, report: Report) -> None:
        log = self._runtime.log
        match report:
            case Interfaces():
                self._introduce()
                self._wake.set()
            case Notice(code, message, interface, address):
                log.warn(message, code=str(code), interface=interface, address=address)
            case Restarted(cause, running):
                log.error("pulse process restarted", cause=cause, running=running)
            case Lapsed(silent):
                log.error("this process was stuck; nothing is answered for", seconds=silent)
                self._lapsed = True
                self._wake.set()

    def _session_changed(self) -> None:
        self._objects.changed()
        self._introduce()
        self._wake.set()  # the back end may have, or not have any more, a problem to report

    def _introduce(self) -> None:
        """Let everybody know where this node can announce, its BGP sessions and its settings."""
        names = [
            item.name for item in self._pulse.interfaces if item.announces(4) or item.announces(6)
        ]
        self._heartbeat.annotations = {
            INTERFACES_ANNOTATION: ",".join(sorted(names)),
            SESSIONS_ANNOTATION: encode(self._states()).decode(),
            SETTINGS_ANNOTATION: encode(self._planner.options).decode(),
            BOOT_ANNOTATION: self._boot,
        }

    # Deciding.

    async def _run(self) -> None:
        # A part of the objects would look as if the rest were deleted. The status objects, one for
        # each service, decide nothing: announcing does not wait for them.
        await self._informers.wait_synced(besides=(ServiceL2Status, ServiceBGPStatus))
        self._sessions.begin(restarted=self._continues())
        self._beat = self._runtime.tasks.start("heartbeat", self._live)
        self._runtime.tasks.start("reading statuses", self._read_statuses, OnExit.DONE)
        more = self._tick()
        self._runtime.log.info(
            "synced", services=len(self._services), peers=len(self._planner.peers)
        )
        freeze_memory()
        while True:
            if more:
                await asyncio.sleep(0)
            else:
                await self._next_change()
            self._wake.clear()
            more = self._tick()

    def _continues(self) -> bool:
        """Whether this node's speaker ran before and the node was not started anew since then.

        To be asked before this program writes its Lease: the one of before tells.
        """
        key = ObjectKey(self._runtime.namespace, lease_name(self._node))
        lease = self._informers.store(Lease).get(key)
        return lease is not None and lease.metadata.annotations.get(BOOT_ANNOTATION) == self._boot

    async def _next_change(self) -> None:
        """Wait for a change, or until a Lease may have ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._liveness.recheck_in()):
                await self._wake.wait()

    async def _read_statuses(self) -> None:
        """Begin to report once it is known what was reported before."""
        await self._informers.wait_synced()
        self._reports = True
        freeze_memory()
        self._wake.set()

    async def _live(self) -> None:
        """Let others count on this node: it knows everything, and can answer.

        They hand addresses over as soon as they see it. BGP does not wait for this.
        """
        await self._pulse.ready()
        self._introduce()
        await self._heartbeat.run()

    def _tick(self) -> bool:
        """Decide about what changed and put it in force.

        Returns:
            Whether there is more to report, for the next tick.
        """
        self._own_node.look()
        self._look_around()
        before = self._planner.problems
        changes = self._planner.refresh()
        if changes.problems:
            tell_problems(self._runtime.log, before, self._planner.problems)
        self._apply(changes)
        return self._report_some()

    def _look_around(self) -> None:
        """Tell the planner who lives and which interfaces they have, where that changed."""
        alive = self._liveness.alive()
        if alive != self._alive:
            self._alive = alive
            self._planner.set_speakers(alive)
        now = self._liveness.interfaces()
        if now != self._interfaces:
            for node in now.keys() | self._interfaces.keys():
                if now.get(node) != self._interfaces.get(node):
                    self._planner.set_interfaces(node, now.get(node))
            self._interfaces = now

    def _apply(self, changes: Changes) -> None:
        """Put what changed in force."""
        self._state.report(self._problems)
        self._tell_sessions(changes)
        self._answer(changes)
        self._unreported.update(changes.services)

    def _tell_sessions(self, changes: Changes) -> None:
        """Give peers and routes to who speaks BGP, from when they are complete."""
        planner, routes = self._planner, changes.routes
        profiles = planner.config.bfd_profiles
        first = self._profiles is None
        if first:
            # Until it has seen its own Lease this node counts itself out. FRR may hold routes from
            # before this program was started, and would withdraw them.
            if self._liveness.blind:
                return
            routes = {peer: dict(planner.routes(peer)) for peer in planner.peers}
        if first or changes.peers or profiles != self._profiles:
            self._profiles = profiles
            self._sessions.set_peers(planner.peers, profiles)
            self._objects.changed()
            if first:
                self._objects.start()
            # Who starts next may tell the peers that traffic never stopped only if it reads that.
            restarts = any(peer.graceful_restart for peer in planner.peers.values())
            self._heartbeat.leaves_word = restarts and self._sessions.ends_sessions
            self._unreported |= planner.services.keys()
        for peer, items in routes.items():
            self._sessions.change_routes(peer, items)

    @property
    def _problems(self) -> Sequence[Problem]:
        """What is wrong with the configuration, and what of it cannot be put in force."""
        refused = self._sessions.problems()
        return (*self._planner.problems, *refused) if refused else self._planner.problems

    def _report_some(self) -> bool:
        """Tell of some services; of thousands at once would hold sessions and heartbeats up.

        Returns:
            Whether some are left.
        """
        # Before its own Lease was seen this node counts itself out: that is not worth telling.
        if self._liveness.blind or not self._reports:
            return False
        for key in sorted(islice(self._unreported, limits.SERVICES_TOLD_IN_ONE_TURN)):
            self._unreported.discard(key)
            self._report(key)
        return bool(self._unreported)

    def _answer(self, changes: Changes) -> None:
        """Bring the table of the pulse process up to date."""
        new: dict[Address, frozenset[str] | None] = {}
        gone: list[Address] = []
        for address, item in changes.l2.items():
            if item is None:
                gone.append(address)
                self._table.pop(address, None)
            else:
                names = item.interfaces
                new[address] = self._table[address] = None if names is None else frozenset(names)
        if not self._lapsed:
            self._pulse.change_table(new, gone)
        elif not self._liveness.blind:  # others may own the addresses by now: look, then answer
            self._lapsed = False
            self._pulse.set_table(self._table)

    def _report(self, key: ObjectKey) -> None:
        """Tell in objects and events what this node does for a service."""
        plan, peers = self._planner.services.get(key), self._planner.peers_told(key)
        self._statuses.report(key, plan, peers)
        self._notices.report(key, self._services.get(key), plan, peers)

    # What others see.

    def _samples(self) -> Iterator[metrics.Sample]:
        planner = self._planner
        yield metrics.CONFIG_LOADED.sample(self._informers.synced)
        yield metrics.CONFIG_STALE.sample(any(p.severity == "error" for p in planner.problems))
        yield metrics.K8S_UPDATES.sample(self._updates)
        yield metrics.K8S_UPDATE_ERRORS.sample(self._writer.failed)
        for address, counts in self._pulse.counts.items():
            yield metrics.L2_REQUESTS.sample(counts.requests, str(address))
            yield metrics.L2_RESPONSES.sample(counts.responses, str(address))
            yield metrics.L2_GRATUITOUS.sample(counts.gratuitous, str(address))
        yield from self._sessions.samples()
        yield from self._notices.samples()

    def _states(self) -> dict[str, str]:
        """Peer -> state of its session in one word."""
        return {name: report.state for name, report in self._sessions.states().items()}

    def _inputs(self) -> Snapshot:
        """All that is decided from, and what this program knows of its sessions."""
        reports = self._sessions.states()
        told = Observed(sessions={self._node: self._states()}, details={self._node: reports})
        return msgspec.structs.replace(self._planner.snapshot().redacted(), observed=told)

    def snapshot(self) -> dict[str, object]:
        """What `/debug/snapshot` shows; `snapshot` is what `plan` and `explain` read."""
        return {
            "component": COMPONENT,
            "node": self._node,
            "namespace": self._runtime.namespace,
            "snapshot": self._inputs(),
            "problems": [problem_line(problem) for problem in self._problems],
            "answers": {
                str(address): None if names is None else sorted(names)
                for address, names in sorted(self._table.items())
            },
            "sessions": self._sessions.shown(),
            "listener": self._sessions.listener,
            "neighborhoods": self._sessions.neighborhoods,
            "interfaces": self._pulse.interfaces,
            "followed": self._informers.health,
        }


async def run_speaker(options: SpeakerOptions) -> None:
    """Run until SIGTERM or SIGINT, then hand over and withdraw.

    Raises:
        ClarionError: no API is configured, or a task that must run has ended.
    """
    async with surroundings(COMPONENT, options, host=options.node_name) as runtime:
        runtime.log.info("speaker starts", node=options.node_name, namespace=runtime.namespace)
        speaker = Speaker(runtime, options)
        await speaker.start()
        try:
            await serve_until_stopped(runtime, options.listen_http, speaker.snapshot)
        finally:
            runtime.log.info("speaker stops")
            await speaker.stop()
