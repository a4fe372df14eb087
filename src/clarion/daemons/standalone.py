"""`clarion run`: one machine, no cluster. The embedded API, the controller and the speaker.

Each is a program of its own and a child of this one; what they share goes through the API. This
program starts them in order, applies the manifests, and stops them in the reverse order.
"""

import asyncio
import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from clarion.base import limits
from clarion.base.duration import format_duration
from clarion.base.errors import ClarionError
from clarion.daemons.configstate import state_status, write_state
from clarion.daemons.runtime import find_namespace
from clarion.daemons.supervisor import Child, Children, clarion_child
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import ApiError, KubeClient, PatchType
from clarion.edge.kubeconfig import find_config
from clarion.edge.listen import check_free
from clarion.edge.logs import Log, LogLevel, setup_logging
from clarion.edge.tasks import StopSignals
from clarion.model.annotations import LABEL_COMPONENT_TYPE
from clarion.model.kinds import find_kind
from clarion.model.manifests import Document, ManifestProblem
from clarion.model.meta import ObjectKey, ObjectMeta

MANIFESTS_APPLIED = "clarion.metallb.io/ManifestsApplied"
_log = Log("run")


class StandaloneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of `clarion run`.

    Attributes:
        data_dir: Everything that must survive a restart, and the kubeconfig.
        listen: HOST:PORT of the embedded API.
        speaker_http: HOST:PORT of the speaker's health, metrics and debug; empty: none.
        controller_http: The same of the controller.
        manifests: Objects applied at the start, as people wrote them.
        problems: What could not be read of the manifests.
        node_name: The name of this machine's Node.
        graceful_shutdown: Seconds for which the speaker sheds its traffic before it stops.
        speaker_flags: Further flags for the speaker.
    """

    data_dir: Path
    listen: str
    node_name: str
    speaker_http: str
    controller_http: str
    manifests: tuple[Document, ...] = ()
    problems: tuple[ManifestProblem, ...] = ()
    lb_class: str = ""
    namespace: str = ""
    log_level: LogLevel = LogLevel.INFO
    graceful_shutdown: float = 0.0
    speaker_flags: tuple[str, ...] = ()

    @property
    def kubeconfig(self) -> Path:
        """For kubectl and for the children."""
        return self.data_dir / "kubeconfig"


def programs(options: StandaloneOptions) -> tuple[Child, Child, Child]:
    """The children, in the order in which they start."""
    logs = ("--log-level", str(options.log_level))
    kubeconfig, data = str(options.kubeconfig), str(options.data_dir / "api")
    api = ("--data-dir", data, "--listen", options.listen)
    scope = ("--lb-class", options.lb_class, "--namespace", options.namespace)
    follow = ("--kubeconfig", kubeconfig, *scope, *logs)
    controller = ("--listen-http", options.controller_http, *follow)
    node = ("--node-name", options.node_name, "--register-node")
    shed = ("--bgp-graceful-shutdown", format_duration(options.graceful_shutdown))
    flags = (*node, "--listen-http", options.speaker_http, *shed, *follow, *options.speaker_flags)
    speaker = clarion_child("speaker", "speaker", *flags)
    patience = limits.CHILD_STOP_SECONDS + options.graceful_shutdown
    return (
        clarion_child("apiserver", "apiserver", *api, "--write-kubeconfig", kubeconfig, *logs),
        clarion_child("controller", "controller", *controller),
        msgspec.structs.replace(speaker, stop_seconds=patience),
    )


async def run_standalone(options: StandaloneOptions) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ClarionError: the data directory or an address is in use, or a program cannot run at all.
    """
    setup_logging(options.log_level)
    options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _sole_user(options.data_dir):
        # A child that found its address taken would be started again for ever.
        check_free(options.listen, "--listen")
        for listen, flag in (
            (options.speaker_http, "--speaker-http"),
            (options.controller_http, "--controller-http"),
        ):
            if listen:
                check_free(listen, flag)
        await _run_children(options)


@contextmanager
def _sole_user(data_dir: Path) -> Iterator[None]:
    """Hold the data directory's lock; it ends with the process, however that ends."""
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClarionError(
                f"{data_dir} is in use by another `clarion run`",
                "stop it, or use another --data-dir",
            ) from None
        yield


async def _run_children(options: StandaloneOptions) -> None:
    options.kubeconfig.unlink(missing_ok=True)
    api, *others = programs(options)
    children = Children(_log)
    with StopSignals() as signals:
        up = asyncio.create_task(_bring_up(options, children, others))
        stop = asyncio.create_task(signals.wait())
        broken = asyncio.create_task(children.broken())
        try:
            children.start(api)
            await asyncio.wait([up, stop, broken], return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()
                await asyncio.wait([stop, broken], return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                raise ClarionError(f"{broken.result()} cannot run", "see its messages above")
        finally:
            _log.info("stopping")
            up.cancel()
            await asyncio.wait([up])
            await children.stop()
            stop.cancel()
            broken.cancel()


async def _bring_up(
    options: StandaloneOptions,
    children: Children,
    others: Iterable[Child],
) -> None:
    try:
        async with asyncio.timeout(limits.CHILD_READY_SECONDS):
            while not options.kubeconfig.exists():  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(limits.CHILD_READY_POLL_SECONDS)
    except TimeoutError:
        raise ClarionError("the embedded API did not come up", "see its messages above") from None
    async with KubeClient(find_config(str(options.kubeconfig), SystemClock())) as client:
        refused = await _apply_all(client, options.manifests)
        await _tell(client, options, refused)
    for child in others:
        children.start(child)
    _log.info("running", kubeconfig=str(options.kubeconfig), node=options.node_name)


async def _apply_all(client: KubeClient, manifests: Iterable[Document]) -> list[str]:
    """Apply all manifests; what is refused, each with its place: the others must take effect."""
    refused = []
    # A namespace must be there before what lives in it.
    for item in sorted(manifests, key=lambda item: item.object.get("kind") != "Namespace"):
        try:
            await _apply(client, item)
        except ApiError as error:
            line, column = item.source.position()
            place = f"{item.source.file}:{line}:{column}"
            what = f"{item.object.get('kind')} {(item.object.get('metadata') or {}).get('name')}"
            why = "; ".join(cause.message for cause in error.causes) or error.message
            _log.error("manifest refused", place=place, object=what, error=why)
            refused.append(f"{place}: {what}: refused: {why}")
    return refused


async def _apply(client: KubeClient, item: Document) -> None:
    """Apply as `kubectl apply --server-side` does, so that people's own changes stay theirs."""
    obj = item.object
    kind = find_kind(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
    metadata = obj.get("metadata") or {}
    if kind is None:
        _log.warn("manifest passed over: not a kind of ours", kind=obj.get("kind"), meta=metadata)
        return
    namespace = metadata.get("namespace", "default") if kind.namespaced else ""
    key = ObjectKey(namespace, str(metadata.get("name", "")))
    await client.patch(
        kind.struct, key, obj, how=PatchType.APPLY, field_manager="clarion-run", force=True
    )


async def _tell(client: KubeClient, options: StandaloneOptions, refused: Sequence[str]) -> None:
    """Keep what is wrong with the manifests where `kubectl` and `clarion status` find it.

    The programs cannot tell of it: what could not be read never reached the API.
    """
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for problem in options.problems:
        lines[problem.severity].append(f"[{problem.code}] {problem}")
    when = SystemClock().now().strftime("%Y-%m-%dT%H:%M:%SZ")
    errors = [*lines["error"], *refused]
    status = state_status(MANIFESTS_APPLIED, errors, lines["warning"], when)
    try:
        namespace = options.namespace or await find_namespace(client)
        labels = {LABEL_COMPONENT_TYPE: "run"}
        await write_state(
            client, ObjectMeta(name="run", namespace=namespace, labels=labels), status
        )
    except ApiError as error:
        _log.warn("the state of the manifests cannot be written", error=error.message)
