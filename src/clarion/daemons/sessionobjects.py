"""BGPSession objects: how this node's sessions stand, for kubectl and for `clarion status`.

At rest nothing is written. News (up, down, why, what was agreed) is written at once; counts, and
attempts that fail as the last one did, once a minute. A cluster that has no definition of the kind
yet is no trouble: the reflector waits for it. Objects of peers that are gone go, and with the Node
go all of its own.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

import msgspec

from clarion.base import limits
from clarion.daemons.noderegistry import node_owner
from clarion.daemons.runtime import Runtime
from clarion.daemons.writer import Writer
from clarion.edge.kubeclient import AlreadyExistsError, PatchType, Selection
from clarion.edge.reflector import Reflector
from clarion.model.annotations import LABEL_NODE
from clarion.model.core import Node
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.sessions import BGPSession, BGPSessionStatus, SessionEvent

Reports = Callable[[], Mapping[str, BGPSessionStatus]]
_NAME_PART = 100


def session_name(node: str, peer: str) -> str:
    """Name of the object: readable, and with a number that keeps any two apart."""
    digest = hashlib.sha256(f"{node}/{peer}".encode()).hexdigest()[:8]
    parts = (text[:_NAME_PART].strip("-.") for text in (node, peer))
    return "-".join((*parts, digest))


def news_of(report: BGPSessionStatus) -> BGPSessionStatus:
    """What of a report is worth a write of its own."""

    def words(event: SessionEvent | None) -> SessionEvent | None:
        return event and SessionEvent(text=event.text)

    steady = report if report.up else msgspec.structs.replace(report, state="", since="")
    return msgspec.structs.replace(
        steady,
        prefixes=None,
        last_error=words(report.last_error),
        notification_sent=words(report.notification_sent),
        notification_received=words(report.notification_received),
    )


class SessionObjects:
    """Keeps the BGPSession objects of one node equal to what its back end reports.

    Args:
        runtime: The surroundings.
        writer: Performs the writes.
        node: The node.
        nodes: The Nodes: with this node's go its objects.
        peers: The peers in force: objects of others go.
        reports: Peer -> how its session stands now, of the peers of which that is known.
    """

    def __init__(
        self,
        runtime: Runtime,
        writer: Writer,
        node: str,
        nodes: Mapping[ObjectKey, Node],
        peers: Callable[[], Iterable[str]],
        reports: Reports,
    ) -> None:
        self._runtime = runtime
        self._client = runtime.client
        self._writer = writer
        self._namespace = runtime.namespace
        self._node = node
        self._nodes = nodes
        self._peers = peers
        self._reports = reports
        self._told: dict[ObjectKey, BGPSessionStatus] = {}
        self._wake = asyncio.Event()
        self._own = Reflector(
            runtime.client,
            BGPSession,
            runtime.clock,
            runtime.entropy,
            on_delta=self._on_own,
            selection=Selection(namespace=self._namespace, labels=f"{LABEL_NODE}={node}"),
            guard=None,
        )

    def start(self) -> None:
        """Begin to report: from now on the reports are complete."""
        self._runtime.tasks.start("reflector bgpsessions", self._own.run)
        self._runtime.tasks.start("session objects", self._run)

    def changed(self) -> None:
        """Something about a session changed."""
        self._wake.set()

    def _on_own(
        self, _kind: Kind, key: ObjectKey, _old: KubeObject | None, new: KubeObject | None
    ) -> None:
        self._writer.heard()
        status = new.status if isinstance(new, BGPSession) else None
        # Of our own writes the watch tells too; what somebody else did is put right.
        if status != self._told.get(key) and not self._writer.busy_with((BGPSession, key)):
            self._told.pop(key, None)
            self._wake.set()

    async def _run(self) -> None:
        await self._own.synced.wait()
        clock = self._runtime.clock
        due = latest = clock.monotonic() + limits.SESSION_COUNTS_SECONDS
        while True:
            now = clock.monotonic()
            everything = now >= due
            if everything:
                due = latest = now + limits.SESSION_COUNTS_SECONDS
            self._wake.clear()
            if self.reconcile(everything=everything) and not everything:
                due = min(latest, now + limits.SESSION_SETTLE_SECONDS)
            await asyncio.sleep(limits.SESSION_NEWS_SECONDS)
            rest = due - clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, rest)):
                    await self._wake.wait()

    def reconcile(self, *, everything: bool) -> bool:
        """Want the writes that are needed.

        Args:
            everything: Write counts too, not only news.

        Returns:
            Whether a report is to be written.
        """
        written = False
        for peer, report in self._reports().items():
            key = self._key(peer)
            found = self._own.store.get(key)
            # What was told may not have been written: from time to time what is stored counts.
            trusted = not everything or self._writer.busy_with((BGPSession, key))
            told = self._told.get(key) if trusted else None
            told = told or (found.status if found else None)
            if told is not None and (
                report == told or (not everything and news_of(report) == news_of(told))
            ):
                self._told[key] = told
                continue
            self._told[key] = report
            written = True
            write = partial(self._write, key, report, there=found is not None)
            self._writer.put((BGPSession, key), write)
        in_force = set(map(self._key, self._peers()))
        for key in (self._told.keys() | self._own.store.keys()) - in_force:
            self._told.pop(key, None)
            delete = partial(self._client.delete, BGPSession, key)
            self._writer.put((BGPSession, key), delete)
        return written

    def _key(self, peer: str) -> ObjectKey:
        return ObjectKey(self._namespace, session_name(self._node, peer))

    async def _write(self, key: ObjectKey, report: BGPSessionStatus, *, there: bool) -> None:
        if not there:
            meta = ObjectMeta(
                name=key.name,
                namespace=key.namespace,
                labels={LABEL_NODE: self._node},
                owner_references=node_owner(self._nodes.get(ObjectKey("", self._node))),
            )
            with suppress(AlreadyExistsError):  # by an earlier write of which the watch is behind
                await self._client.create(BGPSession(metadata=meta))
        # A merge would leave what the report does not know any more.
        patch = [{"op": "add", "path": "/status", "value": report}]
        await self._client.patch(BGPSession, key, patch, how=PatchType.JSON, subresource="status")
