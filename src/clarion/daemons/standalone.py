"""`clarion run`: one machine, no cluster. The embedded API, the controller and the speaker.

Each is a program of its own and a child of this one; what they share goes through the API. This
program starts them in order, applies the manifests, and stops them in the reverse order.
"""

import asyncio
import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from clarion.base import limits
from clarion.base.errors import ClarionError
from clarion.daemons.supervisor import Child, Children, clarion_child
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import ApiError, KubeClient, PatchType
from clarion.edge.kubeconfig import find_config
from clarion.edge.logs import Log, LogLevel, setup_logging
from clarion.edge.tasks import StopSignals
from clarion.model.kinds import find_kind
from clarion.model.meta import JSONObject, ObjectKey

_log = Log("run")


class StandaloneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of `clarion run`.

    Attributes:
        data_dir: Everything that must survive a restart, and the kubeconfig.
        manifests: Objects applied at the start, as people wrote them.
        node_name: The name of this machine's Node.
        speaker_flags: Further flags for the speaker.
    """

    data_dir: Path
    listen: str
    node_name: str
    manifests: tuple[JSONObject, ...] = ()
    lb_class: str = ""
    namespace: str = ""
    log_level: LogLevel = LogLevel.INFO
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
    speaker = ("--node-name", options.node_name, "--register-node", *follow)
    return (
        clarion_child("apiserver", "apiserver", *api, "--write-kubeconfig", kubeconfig, *logs),
        clarion_child("controller", "controller", *follow),
        clarion_child("speaker", "speaker", *speaker, *options.speaker_flags),
    )


async def run_standalone(options: StandaloneOptions) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        ClarionError: the data directory is in use, or a program cannot run at all.
    """
    setup_logging(options.log_level)
    options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _sole_user(options.data_dir):
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
        # A namespace must be there before what lives in it.
        for obj in sorted(options.manifests, key=lambda obj: obj.get("kind") != "Namespace"):
            await _apply(client, obj)
    for child in others:
        children.start(child)
    _log.info("running", kubeconfig=str(options.kubeconfig), node=options.node_name)


async def _apply(client: KubeClient, obj: JSONObject) -> None:
    """Apply as `kubectl apply --server-side` does, so that people's own changes stay theirs."""
    kind = find_kind(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
    metadata = obj.get("metadata", {})
    if kind is None:
        _log.warn("manifest passed over: not a kind of ours", kind=obj.get("kind"), meta=metadata)
        return
    namespace = metadata.get("namespace", "default") if kind.namespaced else ""
    key = ObjectKey(namespace, str(metadata.get("name", "")))
    try:
        await client.patch(
            kind.struct, key, obj, how=PatchType.APPLY, field_manager="clarion-run", force=True
        )
    except ApiError as error:
        # One refused object must not keep the machine from announcing the others.
        _log.error("manifest refused", kind=kind.kind, object=str(key), error=error.message)
