"""Typed objects of the API server, kept up to date: drives `proto.kube.reflector` over HTTP."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from clarion.base import limits
from clarion.base.errors import DecodeError
from clarion.base.ports import Clock, Entropy
from clarion.edge.grounds import grounds_of, stands_on_cluster
from clarion.edge.kubeclient import (
    EVERYTHING,
    ApiError,
    KubeClient,
    Selection,
)
from clarion.edge.logs import Log
from clarion.edge.tasks import OnExit, Supervisor
from clarion.model import codec
from clarion.model.kinds import Kind, kind_of
from clarion.model.meta import KubeObject, ObjectKey
from clarion.proto.kube import reflector as machine
from clarion.proto.kube.failures import RequestFailed, TroubleCode
from clarion.proto.kube.guard import DeletionGuard, Ground, GuardPolicy
from clarion.proto.kube.wire import Decoded, Key, LineSplitter, decode_page

O = TypeVar("O", bound=KubeObject)  # noqa: E741 - an object

OnDelta = Callable[[Kind, ObjectKey, KubeObject | None, KubeObject | None], None]
"""Called after each change: kind, key, the object before (None: new) and after (None: gone)."""


STANDARD_GUARD: Final = GuardPolicy()


class Store(Mapping[ObjectKey, O], Generic[O]):
    """The objects of one kind by key, as last told by the server. Only its reflector writes."""

    def __init__(self) -> None:
        self._objects: dict[ObjectKey, O] = {}

    def __getitem__(self, key: ObjectKey) -> O:
        return self._objects[key]

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def snapshot(self) -> dict[ObjectKey, O]:
        """A copy that later changes do not touch; the objects are immutable and shared."""
        return dict(self._objects)

    def put(self, key: ObjectKey, obj: O) -> O | None:
        """Keep an object; what stood there before."""
        old = self._objects.get(key)
        self._objects[key] = obj
        return old

    def drop(self, key: ObjectKey) -> O | None:
        """Forget an object; what it was."""
        return self._objects.pop(key, None)


class ReflectorHealth(msgspec.Struct, frozen=True):
    """How well one kind is followed, for metrics and `/debug/snapshot`.

    Attributes:
        trouble: What keeps us from following now; empty: nothing.
        error: The same in words.
        set_aside: Objects that cannot be read, with the reason.
        orphans: Objects that stay in force although they vanished, with what they stood on.
        lost: What they stood on.
        lists: How often all was read anew; attempts that were refused do not count.
    """

    kind: str
    state: str
    objects: int
    synced: bool
    version: str
    trouble: str
    error: str
    set_aside: dict[str, str]
    orphans: int
    lost: tuple[str, ...]
    lists: int
    watches: int
    events: int


class Reflector(Generic[O]):
    """Follows one kind.

    Args:
        client: How to reach the server.
        of: The struct of the kind, with the fields that are read of it.
        clock: The clock.
        entropy: For jitter.
        on_delta: Told of each change, on the loop, after the store has it.
        selection: Which objects.
        policy: Sizes and times.
        guard: Times for telling deletions that somebody meant from objects that vanish with what
            they stand on; None for kinds that we only write to ourselves, whose loss withdraws
            nothing.
        keep: What is kept of each object, under its own key; by default all of it.
        log: Where troubles are told.
    """

    def __init__(
        self,
        client: KubeClient,
        of: type[O],
        clock: Clock,
        entropy: Entropy,
        *,
        on_delta: OnDelta | None = None,
        selection: Selection = EVERYTHING,
        policy: machine.Policy | None = None,
        guard: GuardPolicy | None = STANDARD_GUARD,
        keep: Callable[[O], O] | None = None,
        log: Log | None = None,
    ) -> None:
        self.kind = kind_of(of)
        self.store: Store[O] = Store()
        self.synced = asyncio.Event()
        self._client = client
        self._selection = selection
        self._clock = clock
        self._entropy = entropy
        self._on_delta = on_delta
        self._log = (log or Log("reflector")).bind(kind=self.kind.kind)
        self._policy = policy or machine.Policy(page_items=limits.KUBE_PAGE_ITEMS)
        self._guard_policy = guard
        self._guard = DeletionGuard(guard) if guard else None
        self._guard_wake = asyncio.Event()
        self._grounds = grounds_of(client, self.kind, selection, self._log)
        # A deletion in a watch is part of a history without gaps: only for configuration does more
        # hang on it than the object itself.
        self._listed_only = stands_on_cluster(self.kind)
        self._of = of
        self._keep = keep
        self._machine = machine.Reflector(self._decode, self._policy)
        self._listed, self._asked = False, guard is None
        self._trouble = self._error = ""
        self._lists = self._watches = self._events = 0

    @property
    def health(self) -> ReflectorHealth:
        """How well the kind is followed."""
        return ReflectorHealth(
            kind=self.kind.kind,
            state=self._machine.state.value,
            objects=len(self.store),
            synced=self.synced.is_set(),
            version=self._machine.version,
            trouble=self._trouble,
            error=self._error,
            set_aside={str(ObjectKey(*key)): why for key, why in self._machine.set_aside.items()},
            orphans=len(self._guard.orphans) if self._guard else 0,
            lost=self._grounds.lost,
            lists=self._lists,
            watches=self._watches,
            events=self._events,
        )

    def _decode(self, raw: bytes | msgspec.Raw) -> Decoded[O]:
        try:
            obj = codec.decode(raw, self._of)
        except codec.UndecodableError as error:
            raise DecodeError(error.message) from error
        kept = obj if self._keep is None else self._keep(obj)
        return Decoded(obj.key, obj.metadata.resource_version, kept, obj.metadata.uid)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        if self._guard is None or self._guard_policy is None:
            await self._converse()
            return
        over = self._watch_over(self._guard, self._guard_policy)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._converse(), name=f"follow {self.kind.plural}")
            group.create_task(over, name=f"guard {self.kind.plural}")

    async def _converse(self) -> None:
        command = self._feed(machine.Start())
        while True:
            if isinstance(command, machine.StartList):
                command = await self._list(command)
            elif isinstance(command, machine.StartWatch):
                command = await self._watch(command)
            elif isinstance(command, machine.StartProbe):
                command = await self._probe()
            else:
                await asyncio.sleep(self._until_deadline())
                command = self._feed(machine.TimerFired())

    def _until_deadline(self) -> float:
        """Seconds until the machine wants to be woken."""
        deadline = self._machine.deadline
        assert deadline is not None, "a machine that lists has no deadline, and is not asked"
        return max(0.0, deadline - self._clock.monotonic())

    # --- requests ---

    async def _list(self, command: machine.StartList) -> machine.Output[O] | None:
        try:
            body = await self._client.list_page(
                self.kind, self._selection, command.limit, command.token
            )
            page = decode_page(body)
        except ApiError as error:
            return self._feed(_failed(error))
        except DecodeError as error:
            return self._feed(RequestFailed(400, "BadAnswer", error.message))
        self._lists += not command.token
        items, step = page.items, limits.KUBE_DECODE_ITEMS
        while len(items) > step:
            head, items = items[:step], items[step:]
            self._feed(machine.PageReceived(head, page.version, page.token, last_slice=False))
            await asyncio.sleep(0)
        return self._feed(machine.PageReceived(items, page.version, page.token))

    async def _probe(self) -> machine.Output[O] | None:
        try:
            page = decode_page(await self._client.list_page(self.kind, self._selection, limit=1))
        except ApiError as error:
            return self._feed(_failed(error))
        except DecodeError as error:
            return self._feed(RequestFailed(400, "BadAnswer", error.message))
        return self._feed(machine.ProbeAnswered(page.version))

    async def _watch(self, command: machine.StartWatch) -> machine.Output[O] | None:
        self._watches += 1
        try:
            async with asyncio.timeout(self._until_deadline()) as limit:
                return await self._follow(command, limit)
        except TimeoutError:
            watching = self._machine.state is machine.State.WATCHING
            return self._feed(machine.TimerFired()) if watching else None

    async def _follow(
        self, command: machine.StartWatch, limit: asyncio.Timeout
    ) -> machine.Output[O] | None:
        splitter = LineSplitter(limits.KUBE_WATCH_LINE_BYTES)
        loop = asyncio.get_running_loop()
        opened = False
        try:
            async with self._client.watch(
                self.kind, self._selection, command.version, command.timeout
            ) as chunks:
                opened = True
                self._feed(machine.StreamOpened())
                limit.reschedule(loop.time() + self._until_deadline())
                async for chunk in chunks:
                    for line in splitter.feed(chunk):
                        self._feed(machine.LineReceived(line))
                        if self._machine.state is not machine.State.WATCHING:
                            return None
                    limit.reschedule(loop.time() + self._until_deadline())
        except ApiError as error:
            ended = machine.StreamEnded(str(error))
            return self._feed(ended if opened else _failed(error))
        except DecodeError as error:
            return self._feed(machine.StreamEnded(error.message))
        return self._feed(machine.StreamEnded())

    # --- deletions that nobody meant ---

    async def _watch_over(self, guard: DeletionGuard, policy: GuardPolicy) -> None:
        """Let deletions take force once what the objects stand on is known to be there still."""
        answer = await self._grounds.ask()
        self._asked = True
        self._note_sync()
        while answer is Ground.UNKNOWN:
            await asyncio.sleep(policy.retry * (1 + self._entropy.random()))
            answer = await self._grounds.ask()
        while True:
            self._guard_wake.clear()
            until = guard.deadline
            wait = None if until is None else max(0.0, until - self._clock.monotonic())
            if guard.lost:
                wait = policy.remind if wait is None else min(wait, policy.remind)
            try:
                async with asyncio.timeout(wait):
                    await self._guard_wake.wait()
            except TimeoutError:
                if guard.lost and not guard.due(self._clock.monotonic()):
                    self._tell_lost(guard)
            await self._settle_deletions(guard)

    async def _settle_deletions(self, guard: DeletionGuard) -> None:
        began = self._clock.monotonic()
        if not guard.due(began):
            return
        answer = await self._grounds.ask()
        before = guard.lost
        guard.asked(answer, began, self._clock.monotonic(), len(self.store))
        if guard.lost and not before:
            self._tell_lost(guard)
        if before and not guard.lost:
            self._grounds.accept()
            self._log.info("what was lost is restored")
        for key in guard.take_released():
            self._drop(_key(key))

    def _tell_lost(self, guard: DeletionGuard) -> None:
        self._log.error(
            "objects vanished with what they stand on; as last seen they stay in force until they "
            "are restored or this program restarts",
            lost=", ".join(self._grounds.lost),
            kept=len(guard.orphans),
        )

    # --- the machine's outputs ---

    def _feed(self, event: machine.Input) -> machine.Output[O] | None:
        """Give the machine an input and do what it says, except for the request it may want."""
        outputs = self._machine.receive(event, self._clock.monotonic(), self._entropy.random())
        command: machine.Output[O] | None = None
        for output in outputs:
            match output:
                case machine.StartList() | machine.StartWatch() | machine.StartProbe():
                    command = output
                case machine.Upsert(key, value):
                    self._put(_key(key), value)
                case machine.Remove(key, listed):
                    self._removed(_key(key), listed=listed)
                case machine.StopWatch():
                    pass  # the stream is left as soon as the machine is no longer watching
                case _:
                    self._tell(output)
        return command

    def _removed(self, key: ObjectKey, *, listed: bool) -> None:
        if self._guard is None or (self._listed_only and not listed):
            self._drop(key)
        else:
            self._guard.removed(key, self._clock.monotonic())
            self._guard_wake.set()

    def _put(self, key: ObjectKey, obj: O) -> None:
        if self._guard is not None:
            self._guard.upserted(key, self._clock.monotonic())
            self._guard_wake.set()
        self._events += 1
        old = self.store.put(key, obj)
        if self._on_delta is not None:
            self._on_delta(self.kind, key, old, obj)

    def _drop(self, key: ObjectKey) -> None:
        self._events += 1
        old = self.store.drop(key)
        if self._on_delta is not None:
            self._on_delta(self.kind, key, old, None)

    def _note_sync(self) -> None:
        """Synced is what was read, and knows what it stands on if that could be told."""
        if self._listed and self._asked:
            self.synced.set()

    def _tell(self, output: machine.Output[O]) -> None:
        match output:
            case machine.Synced(version):
                self._log.debug("synced", version=version, objects=len(self.store))
                self._listed = True
                self._note_sync()
            case machine.SetAside(key, message):
                name = str(ObjectKey(*key))
                self._log.error("object set aside: it cannot be read", object=name, error=message)
            case machine.Recovered(after):
                self._trouble = self._error = ""
                self._log.info("the API is followed again", after_seconds=round(after, 3))
            case machine.Trouble(code, message, failures, retry_in):
                self._trouble, self._error = code.value, message
                loud = code is TroubleCode.KIND_MISSING
                (self._log.error if loud else self._log.warn)(
                    _TOLD[code],
                    code=code.value,
                    error=message,
                    failures=failures,
                    retry_seconds=round(retry_in, 3),
                    kept=len(self.store),
                )
            case _:
                pass


_TOLD = {
    TroubleCode.UNREACHABLE: "the API does not answer; the last known state stays in force",
    TroubleCode.THROTTLED: "the API asks to wait",
    TroubleCode.SERVER_ERROR: "the API fails; the last known state stays in force",
    TroubleCode.REFUSED: "the API refuses our credentials or rights",
    TroubleCode.KIND_MISSING: (
        "the API does not know this kind: is its CustomResourceDefinition deleted? "
        "All objects last seen stay in force"
    ),
    TroubleCode.EXPIRED: "the API compacts faster than its state can be read",
    TroubleCode.MALFORMED: "the API's answer cannot be read",
    TroubleCode.REJECTED: "the API rejects the request",
    TroubleCode.STREAM_CUT: "watches are cut as soon as they begin",
}


def _key(key: Key) -> ObjectKey:
    """The key that our decoder gave to the machine; one that it read itself is a plain pair."""
    return key if isinstance(key, ObjectKey) else ObjectKey(*key)


def _failed(error: ApiError) -> RequestFailed:
    return RequestFailed(error.status, error.reason, str(error), error.retry_after)


class Informers:
    """Reflectors of several kinds that are started together and awaited together.

    Args:
        client: How to reach the server.
        clock: The clock.
        entropy: For jitter.
        on_delta: Told of each change of any kind.
    """

    def __init__(
        self, client: KubeClient, clock: Clock, entropy: Entropy, on_delta: OnDelta | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._entropy = entropy
        self._on_delta = on_delta
        self._reflectors: dict[Kind, Reflector[Any]] = {}

    def add(
        self,
        of: type[O],
        *,
        selection: Selection = EVERYTHING,
        on_delta: OnDelta | None = None,
        policy: machine.Policy | None = None,
        guard: GuardPolicy | None = STANDARD_GUARD,
        keep: Callable[[O], O] | None = None,
    ) -> Reflector[O]:
        """Follow one more kind; its own `on_delta` replaces the common one."""
        reflector = Reflector(
            self._client,
            of,
            self._clock,
            self._entropy,
            on_delta=on_delta or self._on_delta,
            selection=selection,
            policy=policy,
            guard=guard,
            keep=keep,
        )
        if reflector.kind in self._reflectors:
            raise ValueError(f"{reflector.kind.kind} is followed already")
        self._reflectors[reflector.kind] = reflector
        return reflector

    def store(self, of: type[O]) -> Store[O]:
        """The store of a kind that was added."""
        return cast("Store[O]", self._reflectors[kind_of(of)].store)

    def start(self, tasks: Supervisor) -> None:
        """Start all reflectors as supervised tasks."""
        for kind, reflector in self._reflectors.items():
            tasks.start(f"reflector {kind.plural}", reflector.run, OnExit.FAIL)

    @property
    def synced(self) -> bool:
        """Whether every kind was read to the end at least once."""
        return all(reflector.synced.is_set() for reflector in self._reflectors.values())

    async def wait_synced(self, besides: Collection[type[KubeObject]] = ()) -> None:
        """Until every kind, `besides` these, was read to the end at least once."""
        for kind, reflector in self._reflectors.items():
            if kind.struct not in besides:
                await reflector.synced.wait()

    def unsynced(self) -> Iterable[str]:
        """The kinds still awaited, for messages."""
        return [
            k.kind for k, reflector in self._reflectors.items() if not reflector.synced.is_set()
        ]

    @property
    def health(self) -> tuple[ReflectorHealth, ...]:
        """How well each kind is followed."""
        return tuple(reflector.health for reflector in self._reflectors.values())
