"""`clarion controller`: gives addresses to services and keeps the statuses that tell of them.

The API's changes only mark things dirty. A tick lets the planner decide about them and hands the
differences to the writer. All deciding is in `decide`.

Of several controllers one leads. The others follow the API, answer reviews and decide nothing; each
that takes over begins as after a start: with what the services' statuses say.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice

from clarion.base import limits
from clarion.daemons.conditions import wanted_conditions
from clarion.daemons.configstate import (
    ConfigState,
    problem_line,
    tell_problems,
)
from clarion.daemons.inputs import feed, feed_all, follow_inputs, unreadable
from clarion.daemons.leadership import Leadership, join_election
from clarion.daemons.memberlist import MemberlistSecret
from clarion.daemons.rests import Rests
from clarion.daemons.runtime import (
    ProgramOptions,
    Runtime,
    freeze_memory,
    serve_until_stopped,
    surroundings,
)
from clarion.daemons.takeover import catch_up
from clarion.daemons.webhooks import WebhookOptions, Webhooks, listen_address
from clarion.daemons.writer import Writer
from clarion.decide.allocate import Outcome
from clarion.decide.demand import status_texts
from clarion.decide.planner import Planner
from clarion.decide.snapshot import Backend, Options
from clarion.edge import metrics
from clarion.edge.kubeclient import EVERYTHING, Selection
from clarion.model.annotations import IP_ALLOCATED_FROM_POOL, LABEL_COMPONENT_TYPE
from clarion.model.core import Service
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import IPAddressPool

COMPONENT = "metallb-controller"


class Controller:
    """Who has which address, kept true."""

    def __init__(self, runtime: Runtime, options: Options, *, elect: bool = False) -> None:
        self.on_change: list[Callable[[Kind | None], None]] = []
        """Called with the kind when anything but a service changed; None: the leadership."""
        self._runtime = runtime
        self._options = options
        self._wake = asyncio.Event()
        self.leadership = (
            join_election(
                runtime.client, runtime.namespace, runtime.clock, runtime.entropy, self._on_lead
            )
            if elect
            else Leadership(runtime.clock)
        )
        fence = self.leadership.until
        self._writer = Writer(runtime.clock, runtime.entropy, runtime.log, fence)
        self._term: str | None = None  # the time of leading in which the decisions were made
        self._updates = 0
        self._informers = runtime.follow(self._on_delta)
        follow_inputs(self._informers, runtime.namespace)
        self._services = self._informers.store(Service)
        self._pools = self._informers.store(IPAddressPool)
        self._begin()
        runtime.metrics.add(self._samples)
        runtime.metrics.add(self.leadership.samples)

    def _begin(self) -> None:
        """Have decided nothing yet."""
        runtime = self._runtime
        self._state = self._new_state()
        self._planner = Planner(self._options)
        self._rests = Rests(runtime.client, self._writer, runtime.clock, self._planner, self._pools)
        self._told: dict[ObjectKey, Outcome] = {}
        self._seen_services: set[ObjectKey] = set()
        self._seen_pools: set[str] = set()
        self._untold: dict[ObjectKey, None] = {}

    def _new_state(self) -> ConfigState:
        """A ConfigurationState of which nothing was written yet."""
        runtime = self._runtime
        meta = ObjectMeta(
            name="controller",
            namespace=runtime.namespace,
            labels={LABEL_COMPONENT_TYPE: "controller"},
        )
        return ConfigState(runtime.client, self._writer, runtime.clock, "poolReconcilerValid", meta)

    def start(self) -> None:
        """Start deciding and writing, while this program leads."""
        self.leadership.start(self._runtime.tasks)
        self._runtime.tasks.start("writer", self._writer.run)
        self._runtime.tasks.start("decide", self._run)

    async def _run(self) -> None:
        # Nothing is given before everything was read: an address in use might be given twice.
        await self._informers.wait_synced()
        self._runtime.log.info("synced", services=len(self._services), pools=len(self._pools))
        freeze_memory()
        while True:
            await self.leadership.wait()
            await self._lead()

    async def _lead(self) -> None:
        """Decide and write until another may."""
        if self.leadership.term != self._term:
            await self._take_over()
        else:
            # The lease could not be renewed in time, and nobody else had it: what was decided
            # stands, and what the fence held back is written now.
            self._state = self._new_state()
            self._seen_services.update(self._services)
            self._seen_pools.update(key.name for key in self._pools)
        while self.leadership.leads:
            self._wake.clear()
            if self.tick():
                await asyncio.sleep(0)
            else:
                await self._next_change()
        self._writer.clear()

    async def _take_over(self) -> None:
        """Begin with what the API holds: another may have decided otherwise, and that counts."""
        term = self.leadership.term
        if self.leadership.elected:
            await self._catch_up()
        if not self.leadership.leads:
            return
        if self._term is not None:
            self._begin()
            feed_all(self._planner, self._informers)
        self._term = term
        self.tick()
        self._runtime.log.info("deciding", services=len(self._services))
        freeze_memory()

    async def _catch_up(self) -> None:
        """See the addresses that the one before gave, and those that it let rest."""
        ours = Selection(namespace=self._runtime.namespace)
        for of, seen, selection in (
            (Service, self._services, EVERYTHING),
            (IPAddressPool, self._pools, ours),
        ):
            await catch_up(
                self._runtime.client,
                of,
                seen,
                selection=selection,
                unread=partial(unreadable, self._informers, of),
                changed=self._wake,
                wanted=lambda: self.leadership.leads,
                log=self._runtime.log,
            )

    def _on_lead(self, _leads: bool) -> None:
        self._wake.set()
        self._tell_change(None)

    def _tell_change(self, kind: Kind | None) -> None:
        for tell in self.on_change:
            tell(kind)

    async def _next_change(self) -> None:
        """Wait for a change of the API, or until an address has rested long enough."""
        due = self._planner.next_deadline()
        delay = None if due is None else max(0.0, due - self._runtime.clock.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    def _on_delta(
        self, kind: Kind, key: ObjectKey, _old: KubeObject | None, new: KubeObject | None
    ) -> None:
        self._updates += 1
        self._writer.heard()
        feed(self._planner, kind, key, new)
        if kind.struct is Service:
            self._seen_services.add(key)
        elif kind.struct is IPAddressPool:
            self._seen_pools.add(key.name)
        if kind.struct is not Service:
            self._tell_change(kind)
        self._wake.set()

    def tick(self) -> bool:
        """Decide about what changed and hand some of the differences on.

        Returns:
            Whether there are more, for the next tick. All of thousands at once would keep reviews,
            probes and the lease waiting; and each is told as it is decided when its turn comes.
        """
        self._rests.begin()
        before = self._planner.problems
        changes = self._planner.refresh(self._runtime.clock.monotonic())
        if changes.problems:
            tell_problems(self._runtime.log, before, self._planner.problems)
        self._state.report(self._planner.problems)
        # An object that changed is compared even if the decision did not: somebody else may have
        # written its status, or our own write may have met a conflict.
        self._untold |= dict.fromkeys(self._seen_services)
        self._untold |= dict.fromkeys(outcome.service for outcome in changes.outcomes)
        for key in list(islice(self._untold, limits.SERVICES_TOLD_IN_ONE_TURN)):
            del self._untold[key]
            self._conclude(key)
        for name in self._seen_pools.union(changes.pools):
            self._report_pool(name)
            self._rests.report(ObjectKey(self._runtime.namespace, name))
        self._seen_services.clear()
        self._seen_pools.clear()
        return bool(self._untold)

    def _conclude(self, key: ObjectKey) -> None:
        """Tell and write what was decided about a service."""
        service, outcome = self._services.get(key), self._planner.outcome(key)
        if service is None or outcome is None:
            self._told.pop(key, None)
            self._writer.forget(key)
            return
        known = self._told.get(service.key)
        self._told[service.key] = outcome
        if known is None or known.events != outcome.events:
            for note in outcome.events:
                self._runtime.events.record(service, note.type, note.reason, note.message)
        when = self._runtime.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        ignored = outcome.action == "ignore"
        patch = None if ignored else status_patch(service, outcome, when)
        if patch is None:
            self._writer.forget(service.key)
            return
        self._runtime.log.info(
            "service addresses",
            service=str(service.key),
            addresses=[str(address) for address in outcome.addresses],
            pool=outcome.pool,
            action=outcome.action,
            reasons=[reason.text for reason in outcome.reasons],
        )
        write = partial(
            self._runtime.client.patch, Service, service.key, patch, subresource="status"
        )
        self._writer.put(service.key, write)

    def _report_pool(self, name: str) -> None:
        """Bring the status of a pool up to date."""
        key = ObjectKey(self._runtime.namespace, name)
        pool = self._pools.get(key)
        known = name in self._planner.config.pools
        status = self._planner.ledger.usage(name).status() if known else None
        if pool is None or status is None or pool.status == status:
            self._writer.forget(("pool", name))
            return
        patch = {"status": status}
        write = partial(self._runtime.client.patch, IPAddressPool, key, patch, subresource="status")
        self._writer.put(("pool", name), write)

    def _samples(self) -> Iterator[metrics.Sample]:
        planner, leads = self._planner, self.leadership.leads
        stale = leads and any(problem.severity == "error" for problem in planner.problems)
        yield metrics.CONFIG_LOADED.sample(self._informers.synced)
        yield metrics.CONFIG_STALE.sample(stale)
        yield metrics.K8S_UPDATES.sample(self._updates)
        yield metrics.K8S_UPDATE_ERRORS.sample(self._writer.failed)
        # Of pools the leader tells alone: all replicas together would count them twice.
        for name in sorted(planner.config.pools) if leads else ():
            usage = planner.ledger.usage(name)
            yield metrics.POOL_ADDRESSES.sample(sum(usage.capacity.values()), name)
            yield metrics.POOL_IPV4_ADDRESSES.sample(usage.capacity[4], name)
            yield metrics.POOL_IPV6_ADDRESSES.sample(usage.capacity[6], name)
            yield metrics.POOL_IN_USE.sample(sum(usage.assigned.values()), name)
            yield metrics.POOL_IPV4_IN_USE.sample(usage.assigned[4], name)
            yield metrics.POOL_IPV6_IN_USE.sample(usage.assigned[6], name)
            held = tuple(planner.ledger.held_in(name))
            yield metrics.POOL_SERVICES.sample(len(held), name)

    def snapshot(self) -> dict[str, object]:
        """What `/debug/snapshot` shows."""
        return {
            "component": COMPONENT,
            "namespace": self._runtime.namespace,
            "leadership": self.leadership.snapshot(),
            **(self._decided() if self.leadership.leads else {}),
            "followed": self._informers.health,
        }

    def _decided(self) -> dict[str, object]:
        """What is in force by the word of this program."""
        return {
            "config": self._planner.config,
            "problems": [problem_line(problem) for problem in self._planner.problems],
            "outcomes": {
                str(key): {
                    "action": outcome.action,
                    "addresses": [str(address) for address in outcome.addresses],
                    "pool": outcome.pool,
                    "reasons": [reason.text for reason in outcome.reasons],
                }
                for key, outcome in sorted(self._told.items())
            },
        }


def status_patch(service: Service, outcome: Outcome, when: str) -> dict[str, object] | None:
    """The merge patch that brings a service's status to the outcome; None if it is there.

    Args:
        service: The service as it was judged.
        outcome: What was decided about it.
        when: The time, for the condition that the patch may bring.
    """
    wanted = [str(address) for address in outcome.addresses]
    pool = outcome.pool or None
    marked = service.metadata.annotations.get(IP_ALLOCATED_FROM_POOL)
    conditions = wanted_conditions(service, outcome, when)
    if status_texts(service) == wanted and marked == pool and conditions is None:
        return None
    status: dict[str, object] = {
        "loadBalancer": {"ingress": [{"ip": text} for text in wanted] or None}
    }
    if conditions is not None:
        status["conditions"] = list(conditions) or None
    return {
        # The patch is for the object that was judged; a newer one is judged anew.
        "metadata": {
            "resourceVersion": service.metadata.resource_version,
            "annotations": {IP_ALLOCATED_FROM_POOL: pool},
        },
        "status": status,
    }


class ControllerOptions(ProgramOptions, frozen=True, kw_only=True):
    """Flags of the controller.

    Attributes:
        backend: What announces by BGP on the nodes; its rules apply to the configuration.
        leader_elect: Take part in an election, so that several controllers may run.
        memberlist_secret: Name of the Secret to make for MetalLB's speakers; empty: none.
        webhook: The webhooks.
    """

    backend: Backend = "native"
    leader_elect: bool = True
    memberlist_secret: str = ""
    webhook: WebhookOptions = WebhookOptions()


async def run_controller(options: ControllerOptions) -> None:
    """Run until SIGTERM or SIGINT; addresses stay with their services.

    Raises:
        ClarionError: no API, or a task that must run has ended.
    """
    async with surroundings(COMPONENT, options) as runtime:
        runtime.log.info("controller starts", namespace=runtime.namespace)
        decide = Options(
            lb_class=options.lb_class, namespace=runtime.namespace, backend=options.backend
        )
        controller = Controller(runtime, decide, elect=options.leader_elect)
        controller.start()
        if options.memberlist_secret:
            secret = MemberlistSecret(runtime, controller.leadership, options.memberlist_secret)
            runtime.tasks.start("memberlist secret", secret.run)
        async with _webhooks(runtime, controller, decide, options.webhook):
            await serve_until_stopped(runtime, options.listen_http, controller.snapshot)
        runtime.log.info("controller stops")


@asynccontextmanager
async def _webhooks(
    runtime: Runtime, controller: Controller, decide: Options, options: WebhookOptions
) -> AsyncIterator[None]:
    """Answer reviews, where there is somebody to ask."""
    listen = listen_address(options, runtime.client.config.origin)
    if not listen:
        yield
        return
    webhooks = Webhooks(runtime, controller.leadership, decide, options, listen)
    controller.on_change.append(webhooks.changed)
    async with webhooks.serving():
        yield
