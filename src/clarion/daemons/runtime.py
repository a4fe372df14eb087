"""What the controller and the speaker have in common: API, tasks, events, metrics, HTTP, stop."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.events import EventRecorder
from clarion.edge.httpd import start_http
from clarion.edge.kubeclient import ApiError, KubeClient, NotFoundError, UnreachableError
from clarion.edge.kubeconfig import find_config
from clarion.edge.logs import Log, LogLevel, setup_logging
from clarion.edge.metrics import EVENTS_DROPPED, LOOP_LAG, Metrics, Sample, follow_samples
from clarion.edge.reflector import Informers, OnDelta
from clarion.edge.tasks import LagMeter, OnExit, StopSignals, Supervisor
from clarion.model.core import Namespace
from clarion.model.meta import METALLB_NAMESPACE, OWN_NAMESPACE, ObjectKey
from clarion.proto.kube.backoff import Backoff, BackoffPolicy

_START_POLICY = BackoffPolicy(base=0.2, cap=limits.WRITE_PROBE_MAX_SECONDS)


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

    def __init__(
        self,
        component: str,
        client: KubeClient,
        namespace: str,
        host: str = "",
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.entropy = entropy or SystemEntropy()
        self.client = client
        self.namespace = namespace
        self.log = Log(component.removeprefix("metallb-"))
        self.tasks = Supervisor(self.clock, self.entropy)
        self.events = EventRecorder(client, component, self.clock, self.entropy, host)
        self.metrics = Metrics()
        self.lag = LagMeter(self.clock)
        self.informers: Informers
        self.checks: list[Callable[[], Iterable[str]]] = []

    def follow(self, on_delta: OnDelta) -> Informers:
        """Prepare to follow the API; the caller adds the kinds."""
        self.informers = Informers(self.client, self.clock, self.entropy, on_delta)
        return self.informers

    def not_ready(self) -> Iterable[str]:
        """What is still missing: the kinds that were not read yet, and what `checks` say."""
        yield from (f"{kind} not read yet" for kind in self.informers.unsynced())
        for check in self.checks:
            yield from check()

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
        ClarionError: no API is configured, or it refuses us.
    """
    setup_logging(options.log_level)
    config = find_config(options.kubeconfig or None, SystemClock())
    async with KubeClient(config) as client:
        log = Log(component.removeprefix("metallb-"))
        namespace = options.namespace or await default_namespace(client, log)
        runtime = Runtime(component, client, namespace, host)
        runtime.metrics.add(runtime.samples)
        async with runtime.tasks:
            runtime.tasks.start("loop lag", runtime.lag.run)
            runtime.tasks.start("events", runtime.events.run, OnExit.RESTART)
            yield runtime


async def find_namespace(client: KubeClient) -> str:
    """`metallb-system` where it exists, so that a replacement finds its configuration.

    Raises:
        ApiError: the API refuses the question or does not answer.
    """
    try:
        await client.get(Namespace, ObjectKey("", METALLB_NAMESPACE))
    except NotFoundError:
        return OWN_NAMESPACE
    return METALLB_NAMESPACE


async def default_namespace(client: KubeClient, log: Log, retry: float | None = None) -> str:
    """The namespace of `find_namespace`, from an API that is waited for until it answers.

    Args:
        client: How to reach it.
        log: Where the wait is told.
        retry: Seconds between attempts; by default they grow.

    Raises:
        ApiError: the API refuses the question.
    """
    backoff, entropy = Backoff(_START_POLICY), SystemEntropy()
    while True:
        try:
            return await find_namespace(client)
        except ApiError as error:
            if not isinstance(error, UnreachableError) and error.status < 500:
                raise
            if not backoff.failures:
                log.warn("the API does not answer; waiting for it", error=error.message)
            pause = backoff.fail(entropy.random())
            await asyncio.sleep(pause if retry is None else retry)


def freeze_memory() -> None:
    """Take all that lives now out of the garbage collector's rounds: most of it lives for ever.

    Nothing is collected first: that would stop the loop for as long as it spares later.
    """
    gc.freeze()


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
