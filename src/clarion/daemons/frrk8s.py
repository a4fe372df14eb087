"""The back end `frr-k8s`: one FRRConfiguration holds what this node announces by BGP.

frr-k8s gives it to the FRR of the node and tells in BGPSessionState objects how the sessions stand.
The object outlives this program, and with it the routes: nothing is written before all that is
announced was decided, nothing is deleted at the start or the end, and what already stands as it
should is not written again. Only `spec` is ours; labels and annotations are left alone.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from clarion.base import limits
from clarion.base.addr import Prefix
from clarion.daemons.backends import Asked
from clarion.daemons.notices import SessionNotices
from clarion.daemons.runtime import Runtime
from clarion.daemons.sessionsamples import peer_label, session_labels, session_samples
from clarion.daemons.writer import Writer
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.frrk8s import build_spec, configuration_name, session_report, session_states
from clarion.decide.problems import Problem
from clarion.decide.settings import Peer
from clarion.edge import metrics
from clarion.edge.kubeclient import (
    AlreadyExistsError,
    ApiError,
    ForbiddenError,
    NotFoundError,
    PatchType,
    Selection,
)
from clarion.edge.pulse import PulseClient
from clarion.edge.reflector import Reflector
from clarion.model.annotations import LABEL_HOSTNAME
from clarion.model.core import Node
from clarion.model.frrk8s import (
    LABEL_NODE,
    BGPSessionState,
    BGPSessionStateStatus,
    FRRConfiguration,
    FRRConfigurationSpec,
)
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import BFDProfileSpec
from clarion.model.sessions import BGPSessionStatus
from clarion.proto.bgp.config import State
from clarion.proto.bgp.session import StateChanged
from clarion.proto.kube.failures import TroubleCode

MISSING = "install frr-k8s (its kinds or its namespace are missing), or choose another --bgp"
_STATES = {str(state): state for state in State}
_SILENT = BGPSessionStateStatus(bgp_status="unknown", bfd_status="unknown")
_OUTAGE = frozenset({0, 429})  # the writer tells of these


class FrrK8s:
    """Keeps the FRRConfiguration of one node equal to what was decided.

    Args:
        runtime: The surroundings; the Nodes must be followed.
        node: Name of this node.
        namespace: Where frr-k8s runs; empty: where this program's configuration lives.
        notices: Tells of ups and downs.
        on_change: Called after each change of a session.
    """

    ends_sessions = False

    def __init__(
        self,
        runtime: Runtime,
        node: str,
        namespace: str,
        notices: SessionNotices,
        on_change: Callable[[], None],
    ) -> None:
        self._client = runtime.client
        self._log = runtime.log.bind(backend="frr-k8s")
        self._node = ObjectKey("", node)
        self._nodes = runtime.informers.store(Node)
        self._key = ObjectKey(namespace or runtime.namespace, configuration_name(node))
        self._secrets = self._key.namespace if self._key.namespace == runtime.namespace else ""
        self._notices = notices
        self._before: dict[str, State] = {}
        self._changed = on_change
        self._asked = Asked()
        self._wake = asyncio.Event()
        self._wanted: FRRConfigurationSpec | None = None
        self._stood = False  # what is wanted was in force
        self._refusal = ""
        self._writer = Writer(runtime.clock, runtime.entropy, self._log)
        where = self._key.namespace
        self._own = Reflector(
            runtime.client,
            FRRConfiguration,
            runtime.clock,
            runtime.entropy,
            on_delta=self._on_own,
            selection=Selection(namespace=where, fields=f"metadata.name={self._key.name}"),
            guard=None,
        )
        self._told = Reflector(
            runtime.client,
            BGPSessionState,
            runtime.clock,
            runtime.entropy,
            on_delta=self._on_state,
            selection=Selection(namespace=where, labels=f"{LABEL_NODE}={node}"),
            guard=None,
        )
        runtime.tasks.start("frr-k8s writer", self._writer.run)
        runtime.tasks.start("frr-k8s", self._run)
        runtime.tasks.start("reflector frrconfigurations", self._own.run)
        runtime.tasks.start("reflector bgpsessionstates", self._told.run)
        runtime.checks.append(self._troubles)

    # What was decided.

    def begin(self, *, restarted: bool) -> None:
        """Nothing to do: FRR's sessions do not notice when this program starts."""

    def attach(self, pulse: PulseClient) -> None:
        """FRR watches the paths itself."""

    def set_peers(self, peers: Mapping[str, Peer], profiles: Mapping[str, BFDProfileSpec]) -> None:
        """Make these the peers, by name; without any the object goes."""
        self._asked.set_peers(peers, profiles)
        self._log.info("peers in force", peers=sorted(peers))
        self._notices.keep(set(peers))
        self._tell()
        self._wake.set()
        self._changed()

    def change_routes(self, peer: str, changes: Mapping[Prefix, AdvertisedRoute | None]) -> None:
        """Tell a peer what changed; None withdraws."""
        self._asked.change_routes(peer, changes)
        self._wake.set()

    async def stop(self, *, keep_routes: bool) -> None:
        """Nothing ends: FRR goes on announcing what the object holds."""

    # Writing.

    async def _run(self) -> None:
        await self._own.synced.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.FRRK8S_RECHECK_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(limits.FRRK8S_COALESCE_SECONDS)
            self._wake.clear()
            if self._asked.peers is not None:
                self._reconcile(self._asked.peers)

    def _reconcile(self, peers: Mapping[str, Peer]) -> None:
        """Want the write that is needed, if one is."""
        wanted = None
        if peers:
            wanted = build_spec(
                self._hostname or self._node.name,
                peers,
                self._asked.routes,
                self._asked.profiles,
                self._secrets,
            )
        known = self._own.store.get(self._key)
        found = known.spec if known else None
        changed, self._wanted = wanted != self._wanted, wanted
        if found == wanted:
            self._writer.forget(self._key)
            self._stood, self._refusal = True, ""
        elif changed or not self._writer.busy_with(self._key):
            if self._stood and not changed:
                how = "changed" if known else "deleted"
                self._log.warn(f"somebody {how} the FRRConfiguration; it is put back")
            self._stood = False
            self._writer.put(self._key, partial(self._write, wanted, there=known is not None))

    @property
    def _hostname(self) -> str:
        """The label by which frr-k8s knows the node; empty: it has none."""
        node = self._nodes.get(self._node)
        return node.metadata.labels.get(LABEL_HOSTNAME, "") if node else ""

    async def _write(self, spec: FRRConfigurationSpec | None, *, there: bool) -> None:
        try:
            if spec is None:
                await self._client.delete(FRRConfiguration, self._key)
            elif there:
                await self._replace(spec)
            else:
                await self._create(spec)
        except NotFoundError:
            raise  # it vanished meanwhile, of which the watch tells
        except ApiError as error:
            if error.status not in _OUTAGE:
                self._refused(error)
            raise
        self._refusal = ""

    async def _create(self, spec: FRRConfigurationSpec) -> None:
        meta = ObjectMeta(name=self._key.name, namespace=self._key.namespace)
        try:
            await self._client.create(FRRConfiguration(metadata=meta, spec=spec))
        except AlreadyExistsError:  # of which the watch is behind
            await self._replace(spec)
        except NotFoundError as error:
            # No watch will tell of an object of a kind, or in a namespace, that is not there.
            raise ApiError(error.status, error.reason, error.message) from error

    async def _replace(self, spec: FRRConfigurationSpec) -> None:
        # A merge would leave what somebody added beside our fields.
        patch = [{"op": "add", "path": "/spec", "value": spec}]
        await self._client.patch(FRRConfiguration, self._key, patch, how=PatchType.JSON)

    def _refused(self, error: ApiError) -> None:
        """Tell, once, that what is decided is not in force."""
        remedy = "see what frr-k8s says of it"
        if isinstance(error, ForbiddenError):
            remedy = self._rights
        elif error.status == 404:
            remedy = MISSING
        text = f"{error.message}; {remedy}"
        if text != self._refusal:
            self._refusal = text
            self._log.error(
                "the FRRConfiguration cannot be written: what is announced by BGP does not change",
                object=str(self._key),
                error=error.message,
                remedy=remedy,
            )

    @property
    def _rights(self) -> str:
        return f"let the speaker read and write frrconfigurations in {self._key.namespace}"

    # What is heard.

    def _on_own(
        self, _kind: Kind, _key: ObjectKey, _old: KubeObject | None, _new: KubeObject | None
    ) -> None:
        self._writer.heard()
        self._wake.set()

    def _on_state(
        self, _kind: Kind, _key: ObjectKey, old: KubeObject | None, new: KubeObject | None
    ) -> None:
        before, now = (
            item.status.bgp_status if isinstance(item, BGPSessionState) else ""
            for item in (old, new)
        )
        item = new or old
        if before != now and isinstance(item, BGPSessionState):
            peer, vrf = item.status.peer, item.status.vrf
            self._log.info("session", peer=peer, vrf=vrf, state=now or "unknown", before=before)
        if self._asked.peers is not None:
            self._tell()
            self._changed()

    def _tell(self) -> None:
        """Tell of sessions that came up or were lost; frr-k8s does not say why."""
        before, self._before = self._before, {}
        for name, item in self._sessions().items():
            now = self._before[name] = _STATES.get(item.bgp_status, State.IDLE)
            old = before.get(name, State.IDLE)
            if old is not now:
                why = "" if now is State.ESTABLISHED else f"frr-k8s reports {item.bgp_status}"
                self._notices.report(name, StateChanged(old, now, why))

    def _troubles(self) -> Iterator[str]:
        """Why what is decided may not be in force."""
        health = self._own.health
        if not health.synced:
            remedies: dict[str, str] = {
                TroubleCode.KIND_MISSING: MISSING,
                TroubleCode.REFUSED: self._rights,
            }
            yield f"FRRConfiguration not read yet; {remedies.get(health.trouble, 'waiting')}"
        if self._refusal:
            yield f"FRRConfiguration {self._key} cannot be written: {self._refusal}"
        if self._asked.peers and not self._hostname:
            yield f"node {self._node} has no label {LABEL_HOSTNAME}: frr-k8s cannot be told of it"

    # What others see.

    def _sessions(self) -> dict[str, BGPSessionStateStatus]:
        """Peer -> how its session stands, where that is known."""
        return session_states(
            self._asked.peers or {}, (item.status for item in self._told.store.values())
        )

    def problems(self) -> Sequence[Problem]:
        """None: frr-k8s takes an object whole or not at all, of which `/readyz` tells."""
        return ()

    def states(self) -> dict[str, BGPSessionStatus]:
        """Peer -> how its session stands; peers of which frr-k8s is silent are left out."""
        peers = self._asked.peers or {}
        return {name: session_report(peers[name], item) for name, item in self._sessions().items()}

    def samples(self) -> Iterable[metrics.Sample]:
        """Whether sessions are up; the other metrics of sessions are frr-k8s' own."""
        labels = session_labels(self._asked.peers or {})
        for name, report in self.states().items():
            yield from session_samples(report, labels[name])

    @property
    def neighborhoods(self) -> object:
        """None: FRR learns who is there."""
        return None

    @property
    def listener(self) -> object:
        """None: FRR listens, not this program."""
        return None

    def shown(self) -> dict[str, object]:
        """What `/debug/snapshot` shows of the sessions."""
        sessions = self._sessions()
        known = self._own.store.get(self._key)
        return {
            name: {
                "peer": peer_label(peer),
                "state": sessions.get(name, _SILENT).bgp_status,
                "bfd": sessions.get(name, _SILENT).bfd_status,
                "prefixes": len(self._asked.routes[name]),
                "configuration": str(self._key),
                "inForce": known is not None and known.spec == self._wanted,
                "trouble": self._refusal,
            }
            for name, peer in sorted((self._asked.peers or {}).items())
        }
