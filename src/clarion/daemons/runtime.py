"""What the controller and the speaker have in common: API, tasks, events, metrics, HTTP, stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.events import EventRecorder
from clarion.edge.httpd import start_http
from clarion.edge.kubeclient import KubeClient, NotFoundError
from clarion.edge.kubeconfig import find_config
from clarion.edge.logs import Log, LogLevel, setup_logging
from clarion.edge.metrics import EVENTS_DROPPED, LOOP_LAG, Metrics, Sample, follow_samples
from clarion.edge.reflector import Informers, OnDelta
from clarion.edge.tasks import LagMeter, OnExit, StopSignals, Supervisor
from clarion.model.core import Namespace
from clarion.model.meta import ObjectKey

METALLB_NAMESPACE, OWN_NAMESPACE = "metallb-system", "clarion-system"


class ProgramOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flags that the controller and the speaker share.

    Attributes:
        kubeconfig: Path, or empty for the usual places and the Pod's own account.
        namespace: Where the configuration lives; empty: metallb-system if it exists.
        lb_class: The loadBalancerClass to handle; empty: services without one.
        listen_http: HOST:PORT of health, metrics and debug; empty: none.
    """

    kubeconfig: str = ""
    namespace: str = ""
    lb_class: str = ""
    listen_http: str = ""
    log_level: LogLevel = LogLevel.INFO


class Runtime:
    """The running surroundings of one program."""

    def __init__(self, component: str, client: KubeClient, namespace: str, host: str) -> None:
        self.clock = SystemClock()
        self.entropy = SystemEntropy()
        self.client = client
        self.namespace = namespace
        self.log = Log(component.removeprefix("metallb-"))
        self.tasks = Supervisor(self.clock, self.entropy)
        self.events = EventRecorder(client, component, self.clock, self.entropy, host)
        self.metrics = Metrics()
        self.lag = LagMeter(self.clock)
        self.informers: Informers

    def follow(self, on_delta: OnDelta) -> Informers:
        """Prepare to follow the API; the caller adds the kinds."""
        self.informers = Informers(self.client, self.clock, self.entropy, on_delta)
        return self.informers

    def not_ready(self) -> Iterable[str]:
        """The kinds that were not read yet."""
        return [f"{kind} not read yet" for kind in self.informers.unsynced()]

    def samples(self) -> Iterable[Sample]:
        """Metrics of the surroundings."""
        yield from follow_samples(self.informers.health)
        yield LOOP_LAG.sample(self.lag.read().worst)
        yield EVENTS_DROPPED.sample(self.events.counts.dropped)


@asynccontextmanager
async def surroundings(
    component: str, options: ProgramOptions, host: str = ""
) -> AsyncIterator[Runtime]:
    """Set up logging and the API client; close everything at the end.

    Raises:
        ClarionError: no API is configured, or it cannot be reached at the start.
    """
    setup_logging(options.log_level)
    config = find_config(options.kubeconfig or None, SystemClock())
    async with KubeClient(config) as client:
        namespace = options.namespace or await default_namespace(client)
        runtime = Runtime(component, client, namespace, host)
        runtime.metrics.add(runtime.samples)
        async with runtime.tasks:
            runtime.tasks.start("loop lag", runtime.lag.run)
            runtime.tasks.start("events", runtime.events.run, OnExit.RESTART)
            yield runtime


async def default_namespace(client: KubeClient) -> str:
    """`metallb-system` where it exists, so that a replacement finds its configuration."""
    try:
        await client.get(Namespace, ObjectKey("", METALLB_NAMESPACE))
    except NotFoundError:
        return OWN_NAMESPACE
    return METALLB_NAMESPACE


async def serve_until_stopped(
    runtime: Runtime, listen_http: str, snapshot: Callable[[], object]
) -> None:
    """Start following the API, serve HTTP, and return when a signal asks to stop.

    Raises:
        TaskCrashedError: a task ended that the program cannot do without.
    """
    runtime.informers.start(runtime.tasks)
    server = None
    if listen_http:
        server = await start_http(
            listen_http, ready=runtime.not_ready, metrics=runtime.metrics, snapshot=snapshot
        )
    try:
        with StopSignals() as signals:
            waits = [
                asyncio.create_task(signals.wait(), name="stop signal"),
                asyncio.create_task(runtime.tasks.wait(), name="tasks"),
            ]
            done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            for task in done:
                task.result()
    finally:
        if server is not None:
            await server.stop()
