"""Answers to admission reviews, from what the watches brought: the same check as everywhere.

The answer comes from memory. Memory may be behind the server by an instant, so a refusal is judged
again by what the server holds at this moment before it stands, and what was admitted is remembered
until the watch brings it: of two pools in one file that overlap, the second is refused.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock
from clarion.daemons.inputs import CONFIG_KINDS
from clarion.decide.admission import Ground, Verdict, configuring, judge, told
from clarion.decide.problems import Problem
from clarion.decide.snapshot import Options, SecretFacts, Snapshot
from clarion.edge.kubeclient import ApiError, KubeClient, Selection
from clarion.edge.logs import Log
from clarion.edge.reflector import Informers
from clarion.edge.webhook import NotReadyError
from clarion.model.codec import UndecodableError, encode, object_from_builtins
from clarion.model.convert import to_hub
from clarion.model.core import Namespace, Node, Secret
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import BFDProfile, BGPPeer
from clarion.model.review import (
    AdmissionRequest,
    AdmissionResponse,
    AdmissionReview,
    ReviewCause,
    ReviewDetails,
    ReviewStatus,
    read_admission,
)

JUDGED: Final = tuple(kind for kind in CONFIG_KINDS if kind is not Secret)
"""Kinds that are configuration: all others are none of our business, and allowed."""


class _Admitted(msgspec.Struct, frozen=True):
    """An object that the watch has not brought yet."""

    obj: KubeObject
    seen: str  # the version that memory held when it was admitted
    until: float


class Admission:
    """Judges configuration objects that are about to be written.

    Args:
        client: How to ask the server.
        informers: What the watches brought; configuration, nodes and namespaces are read.
        options: Settings of the program.
        clock: The clock.
    """

    def __init__(
        self, client: KubeClient, informers: Informers, options: Options, clock: Clock
    ) -> None:
        self._client = client
        self._informers = informers
        self._options = options
        self._clock = clock
        self._log = Log("admission")
        self.counts = Counter[str]()
        """How many reviews were allowed, and how many refused."""
        self._admitted: OrderedDict[tuple[type, ObjectKey], _Admitted] = OrderedDict()
        self._ground: Ground | None = None

    def changed(self) -> None:
        """Configuration, a Secret, a namespace or a node is another than before."""
        self._ground = None

    async def review(self, body: bytes) -> bytes:
        """Answer an AdmissionReview.

        Raises:
            UndecodableError: it is none.
            NotReadyError: not everything that is needed was read yet.
        """
        request = read_admission(body)
        return encode(AdmissionReview(response=await self.answer(request)))

    async def answer(self, request: AdmissionRequest) -> AdmissionResponse:
        """What is to be said to a request.

        Raises:
            NotReadyError: not everything that is needed was read yet.
        """
        response = AdmissionResponse(uid=request.uid, allowed=True)
        if request.operation == "DELETE":
            response = await self._deletion(request)
        elif request.operation in ("CREATE", "UPDATE") and _configures(request):
            response = await self._change(request)
        self.counts["allowed" if response.allowed else "refused"] += 1
        if not response.allowed:
            self._log.info(
                "refused",
                operation=request.operation,
                kind=request.kind.kind,
                object=str(ObjectKey(request.namespace, request.name)),
                message=response.status.message if response.status else "",
            )
        return response

    # --- create and update ---

    async def _change(self, request: AdmissionRequest) -> AdmissionResponse:
        try:
            candidate = to_hub(object_from_builtins(request.object or {}))
        except UndecodableError as error:
            return _refused(request, 400, "BadRequest", (ReviewCause(message=error.message),))
        if not isinstance(candidate, JUDGED):
            return AdmissionResponse(uid=request.uid, allowed=True)
        if not candidate.namespace:
            candidate = _placed(candidate, request.namespace)
        if not self._informers.synced:
            waiting = ", ".join(self._informers.unsynced())
            raise NotReadyError(f"not read yet: {waiting}")
        verdict = self._remembered().judge(candidate)
        if verdict.errors:
            verdict = await self._confirmed(candidate, verdict)
        if verdict.errors:
            causes = tuple(_cause(problem, candidate.key) for problem in verdict.errors)
            return _refused(request, 422, "Invalid", causes, _warnings(verdict, candidate))
        if not request.dry_run:
            self._remember(candidate)
        return AdmissionResponse(
            uid=request.uid, allowed=True, warnings=_warnings(verdict, candidate)
        )

    def _remembered(self) -> Ground:
        """What the watches brought, and what was admitted since; checked when it changes."""
        now = self._clock.monotonic()
        for slot, item in [*self._admitted.items()]:
            if now >= item.until or self._version(slot) != item.seen:
                del self._admitted[slot]
                self._ground = None
        if self._ground is None:
            self._ground = Ground(self._known())
        return self._ground

    def _known(self) -> Snapshot:
        known = (
            obj
            for of in JUDGED
            for key, obj in self._informers.store(of).items()
            if (of, key) not in self._admitted
        )
        admitted = (item.obj for item in self._admitted.values())
        return self._snapshot([*known, *admitted, *self._informers.store(Secret).values()])

    def _snapshot(self, configuration: Iterable[KubeObject | SecretFacts]) -> Snapshot:
        # Services are left out: only warnings rest on them, and there may be very many.
        cluster = (
            *self._informers.store(Namespace).values(),
            *self._informers.store(Node).values(),
        )
        return Snapshot.from_objects([*configuration, *cluster], self._options)

    def _version(self, slot: tuple[type[KubeObject], ObjectKey]) -> str:
        of, key = slot
        obj = self._informers.store(of).get(key)
        return obj.metadata.resource_version if obj else ""

    def _remember(self, candidate: KubeObject) -> None:
        self._ground = None
        slot = type(candidate), candidate.key
        self._admitted.pop(slot, None)
        until = self._clock.monotonic() + limits.WEBHOOK_MEMORY_SECONDS
        self._admitted[slot] = _Admitted(candidate, self._version(slot), until)
        while len(self._admitted) > limits.WEBHOOK_MEMORY_OBJECTS:
            self._admitted.popitem(last=False)

    async def _confirmed(self, candidate: KubeObject, verdict: Verdict) -> Verdict:
        """The verdict by what the server holds now; without its answer the first one stands."""
        selection = Selection(namespace=self._options.namespace)
        try:
            async with asyncio.timeout(limits.WEBHOOK_CONFIRM_SECONDS):
                lists = await asyncio.gather(
                    *(self._client.list_all(of, selection) for of in CONFIG_KINDS)
                )
        except (ApiError, TimeoutError):
            return verdict
        return judge(self._snapshot(obj for found in lists for obj in found), candidate)

    # --- delete ---

    async def _deletion(self, request: AdmissionRequest) -> AdmissionResponse:
        """Refuse to delete a BFD profile that peers name; whatever is in doubt is allowed."""
        allowed = AdmissionResponse(uid=request.uid, allowed=True)
        if request.kind.kind != BFDProfile.__name__ or self._ending(request.namespace):
            return allowed
        if not any(self._naming(request, self._informers.store(BGPPeer).values())):
            return allowed
        try:
            async with asyncio.timeout(limits.WEBHOOK_CONFIRM_SECONDS):
                selection = Selection(namespace=request.namespace)
                peers = [*self._naming(request, await self._client.list_all(BGPPeer, selection))]
        except (ApiError, TimeoutError):
            return allowed
        if not peers:
            return allowed
        names = ", ".join(peer.name for peer in peers)
        message = f"BGP peers use it: {names} (delete them, or remove their bfdProfile, first)"
        return _refused(request, 422, "Invalid", (ReviewCause(message=message),))

    @staticmethod
    def _naming(request: AdmissionRequest, peers: Iterable[BGPPeer]) -> Iterator[BGPPeer]:
        for peer in peers:
            meta = peer.metadata
            alive = meta.namespace == request.namespace and not meta.deletion_timestamp
            if alive and peer.spec.bfd_profile == request.name:
                yield peer

    def _ending(self, namespace: str) -> bool:
        found = self._informers.store(Namespace).get(ObjectKey("", namespace))
        return found is None or bool(found.metadata.deletion_timestamp)


def _configures(request: AdmissionRequest) -> bool:
    """Whether configuration changes: not with finalizers, labels, status or the way to deletion."""
    new, old = request.object or {}, request.old_object
    try:
        if (new.get("metadata") or {}).get("deletionTimestamp"):
            return False
        return old is None or configuring(new) != configuring(old)
    except AttributeError:
        return True  # some part is no object at all: reading it tells what is wrong


def _placed(candidate: KubeObject, namespace: str) -> KubeObject:
    meta: ObjectMeta = msgspec.structs.replace(candidate.metadata, namespace=namespace)
    return msgspec.structs.replace(candidate, metadata=meta)


def _cause(problem: Problem, key: ObjectKey) -> ReviewCause:
    return ReviewCause(reason="FieldValueInvalid", message=told(problem, key), field=problem.path)


def _warnings(verdict: Verdict, candidate: KubeObject) -> tuple[str, ...]:
    lines = (
        f"{problem.path}: {told(problem, candidate.key)}"
        if problem.path
        else told(problem, candidate.key)
        for problem in verdict.warnings
    )
    longest = limits.WEBHOOK_WARNING_CHARS
    cut = (line if len(line) <= longest else f"{line[: longest - 3]}..." for line in lines)
    return tuple(cut)[: limits.WEBHOOK_WARNINGS]


def _refused(
    request: AdmissionRequest,
    code: int,
    reason: str,
    causes: tuple[ReviewCause, ...],
    warnings: tuple[str, ...] = (),
) -> AdmissionResponse:
    """A refusal that holds all causes twice: as values, and as the text that people read."""
    lines = [f"{item.field}: {item.message}" if item.field else item.message for item in causes]
    details = ReviewDetails(
        name=request.name, group=request.kind.group, kind=request.kind.kind, causes=causes
    )
    status = ReviewStatus(
        status="Failure", message="\n".join(lines), reason=reason, code=code, details=details
    )
    return AdmissionResponse(uid=request.uid, allowed=False, status=status, warnings=warnings)
