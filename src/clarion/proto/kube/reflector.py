"""List and watch as a machine: what the server says goes in, requests and changes come out.

The machine keeps no objects, only which version of which key it has told; the caller keeps the
store. It holds to three promises. At any moment the caller's store is a state that the server was
in, or between two such. A key is removed only when the server said so: by a DELETED event, or by
leaving it out of a list that was read to its end. No failure, however long, removes anything.

One request is outstanding at a time: `StartList`, `StartWatch` and `StartProbe` are commands to
make one, and `StopWatch` ends the stream. Time and jitter come in with each input.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from clarion.base.errors import DecodeError
from clarion.proto.kube.backoff import Backoff, BackoffPolicy
from clarion.proto.kube.failures import RequestFailed, TroubleCode, code_of, version_too_new
from clarion.proto.kube.wire import (
    Decode,
    Decoded,
    Key,
    Status,
    decode_frame,
    decode_metadata,
    decode_status,
    named,
    older,
)

T = TypeVar("T")


class Policy(msgspec.Struct, frozen=True):
    """What a reflector asks for and how long it waits, in seconds and items."""

    page_items: int = 500
    watch_seconds: float = 300.0  # the server ends the stream after this to twice this
    watch_grace_seconds: float = 30.0  # past the end that was asked for before we end it ourselves
    # A server sends a bookmark each minute or so when nothing happens. The other end of a stream
    # that is silent for longer may be gone, or may have lost its memory (etcd restored from a
    # backup): then it waits for its versions to reach ours. Either shows when a single object is
    # listed, over another connection.
    watch_idle_seconds: float = 100.0
    healthy_stream_seconds: float = 1.0  # a stream cut sooner counts as a failure
    notice_repeat_seconds: float = 60.0  # how often a lasting trouble is told again
    bad_lines: int = 3  # unreadable lines in a row before the whole state is read again
    expired_lists: int = 2  # lists that expired while paging before one is asked for in one piece
    backoff: BackoffPolicy = BackoffPolicy(base=0.5, cap=30.0)


# --- inputs ---------------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin."""


class PageReceived(msgspec.Struct, frozen=True, tag=True):
    """Part of a page: a long page may be handed in in slices, so that no loop stalls."""

    items: list[msgspec.Raw]
    version: str
    token: str
    last_slice: bool = True


class StreamOpened(msgspec.Struct, frozen=True, tag=True):
    """The server accepted the watch."""


class LineReceived(msgspec.Struct, frozen=True, tag=True):
    """One complete watch line."""

    line: bytes


class StreamEnded(msgspec.Struct, frozen=True, tag=True):
    """The watch stream is over; `error` says why when it was cut."""

    error: str = ""


class ProbeAnswered(msgspec.Struct, frozen=True, tag=True):
    """The version of the collection now."""

    version: str


class TimerFired(msgspec.Struct, frozen=True, tag=True):
    """The time of `deadline` has come."""


Input: TypeAlias = (
    Start
    | PageReceived
    | StreamOpened
    | LineReceived
    | StreamEnded
    | RequestFailed
    | ProbeAnswered
    | TimerFired
)


# --- outputs --------------------------------------------------------------------------------


class StartList(msgspec.Struct, frozen=True, tag=True):
    """Ask for a page; an empty token is the first page, a limit of 0 asks for all at once."""

    limit: int
    token: str


class StartWatch(msgspec.Struct, frozen=True, tag=True):
    """Watch from this version, with bookmarks; the server shall end it after `timeout` seconds."""

    version: str
    timeout: int


class StartProbe(msgspec.Struct, frozen=True, tag=True):
    """Ask, over another connection, which version the collection has."""


class StopWatch(msgspec.Struct, frozen=True, tag=True):
    """Close the stream; nothing more of it is wanted."""


class Upsert(msgspec.Struct, Generic[T], frozen=True, tag=True):
    """This object is new or has changed."""

    key: Key
    value: T


class Remove(msgspec.Struct, frozen=True, tag=True):
    """This object is gone.

    Attributes:
        listed: Told by a list that lacks it; otherwise by an event that says so.
    """

    key: Key
    listed: bool = False


class SetAside(msgspec.Struct, frozen=True, tag=True):
    """This object cannot be read; what was known of it, if anything, stays in force."""

    key: Key
    message: str


class Synced(msgspec.Struct, frozen=True, tag=True):
    """A list was read to its end: the store equals the server's state at this version."""

    version: str


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """Something is wrong; told when it begins or changes, then once in a while as it lasts."""

    code: TroubleCode
    message: str
    failures: int
    retry_in: float


class Recovered(msgspec.Struct, frozen=True, tag=True):
    """The trouble is over after this many seconds."""

    after: float


Output: TypeAlias = (
    StartList
    | StartWatch
    | StartProbe
    | StopWatch
    | Upsert[T]
    | Remove
    | SetAside
    | Synced
    | Trouble
    | Recovered
)


# --- the machine ----------------------------------------------------------------------------


class State(Enum):
    """Where the conversation with the server stands."""

    IDLE = "idle"
    LISTING = "listing"
    LIST_WAIT = "list-wait"
    WATCHING = "watching"
    WATCH_WAIT = "watch-wait"
    PROBING = "probing"


class _Outcome(Enum):
    """What an input amounted to, as far as the next state is concerned."""

    STAY = "stay"
    BEGUN = "begun"
    MORE_PAGES = "more pages"
    LISTED = "listed"
    RETRY = "retry"
    RELIST = "relist"
    DUE = "due"
    SILENT = "silent"
    ALIVE = "alive"


TRANSITIONS: dict[tuple[State, _Outcome], State] = {
    (State.IDLE, _Outcome.BEGUN): State.LISTING,
    (State.LISTING, _Outcome.MORE_PAGES): State.LISTING,
    (State.LISTING, _Outcome.LISTED): State.WATCHING,
    (State.LISTING, _Outcome.RETRY): State.LIST_WAIT,
    (State.LISTING, _Outcome.RELIST): State.LIST_WAIT,
    (State.LIST_WAIT, _Outcome.DUE): State.LISTING,
    (State.WATCHING, _Outcome.RETRY): State.WATCH_WAIT,
    (State.WATCHING, _Outcome.RELIST): State.LIST_WAIT,
    (State.WATCH_WAIT, _Outcome.DUE): State.WATCHING,
    (State.WATCHING, _Outcome.SILENT): State.PROBING,
    (State.PROBING, _Outcome.ALIVE): State.WATCHING,
    (State.PROBING, _Outcome.RETRY): State.WATCH_WAIT,
    (State.PROBING, _Outcome.RELIST): State.LIST_WAIT,
}


class UnexpectedInputError(Exception):
    """The caller fed an input that its state has no place for: a fault in the caller."""


# What an opened stream does not disprove: only good lines, or a stream that lives, do.
_STREAM_TROUBLES = (TroubleCode.MALFORMED, TroubleCode.STREAM_CUT, TroubleCode.EXPIRED)


class _Form(NamedTuple):
    """What of an object was told last: its version, and the uid of who bears the name."""

    version: str
    uid: str


_NEVER = _Form("", "")


class Reflector(Generic[T]):
    """Follows one collection.

    Args:
        decode: Reads one object.
        policy: Sizes and times.
    """

    def __init__(self, decode: Decode[T], policy: Policy) -> None:
        self._decode = decode
        self._policy = policy
        self._backoff = Backoff(policy.backoff)
        self._state = State.IDLE
        self._out: list[Output[T]] = []
        self._now = 0.0
        self._jitter = 0.0
        self._deadline: float | None = None
        # What the caller's store holds, and what the server holds but we could not read.
        self._known: dict[Key, _Form] = {}
        self._aside: dict[Key, tuple[str, str]] = {}  # version and reason
        # The list in progress.
        self._seen: set[Key] = set()
        self._token = ""
        self._list_version = ""
        self._expired_lists = 0
        # The watch in progress.
        self._version = ""
        self._opened_at: float | None = None
        self._ends_at = 0.0
        self._bad_lines = 0
        self._expired_in_a_row = 0
        # The trouble in progress.
        self._trouble: TroubleCode | None = None
        self._trouble_since = 0.0
        self._trouble_told = 0.0

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._state

    @property
    def version(self) -> str:
        """The version that a watch would go on from; empty before the first full list."""
        return self._version

    @property
    def set_aside(self) -> Mapping[Key, str]:
        """Objects that the server has and that could not be read, with the reason."""
        return {key: message for key, (_, message) in self._aside.items()}

    @property
    def deadline(self) -> float | None:
        """When to feed `TimerFired`; None while only the server's answer is awaited."""
        return self._deadline

    def receive(self, event: Input, now: float, jitter: float) -> list[Output[T]]:
        """Feed one input; what is to be done, in order.

        Args:
            event: What happened.
            now: Monotonic seconds.
            jitter: A random number in [0, 1).

        Raises:
            UnexpectedInputError: the state has no place for this input.
        """
        handler = self._HANDLERS.get((self._state, type(event)))
        if handler is None:
            raise UnexpectedInputError(f"{type(event).__name__} while {self._state.value}")
        self._now = now
        self._jitter = jitter
        outcome = handler(self, event)
        if outcome is not _Outcome.STAY:
            self._enter(TRANSITIONS[self._state, outcome])
        out, self._out = self._out, []
        return out

    def _enter(self, state: State) -> None:
        self._state = state
        if state is State.LISTING:
            self._deadline = None
            whole = self._expired_lists >= self._policy.expired_lists
            self._out.append(StartList(0 if whole else self._policy.page_items, self._token))
        elif state is State.WATCHING:
            timeout = int(self._policy.watch_seconds * (1 + self._jitter))
            self._ends_at = self._now + timeout + self._policy.watch_grace_seconds
            self._opened_at = None
            self._heard()
            self._out.append(StartWatch(self._version, timeout))
        elif state is State.PROBING:
            self._deadline = None
            self._out.append(StartProbe())

    def _heard(self) -> None:
        """The server gave a sign of life, or is given time for one."""
        self._deadline = min(self._ends_at, self._now + self._policy.watch_idle_seconds)

    # --- listing ---

    def _begin(self, _event: Start) -> _Outcome:
        return _Outcome.BEGUN

    def _page(self, page: PageReceived) -> _Outcome:
        # The oldest version of all pages: a watch from there may repeat, and misses nothing.
        self._list_version = self._list_version or page.version
        for raw in page.items:
            self._listed(raw)
        if not page.last_slice:
            return _Outcome.STAY
        if page.token and page.token == self._token:
            self._restart_list()
            failure = RequestFailed(0, message="the server repeats one page without end")
            return self._fail(TroubleCode.MALFORMED, failure, _Outcome.RETRY)
        self._token = page.token
        if page.token:
            return _Outcome.MORE_PAGES
        for key in [key for key in self._known if key not in self._seen]:
            self._removed(key, listed=True)
        for key in [key for key in self._aside if key not in self._seen]:
            del self._aside[key]
        self._version = self._list_version
        self._restart_list()
        self._expired_lists = 0
        self._recovered()
        self._out.append(Synced(self._version))
        return _Outcome.LISTED

    def _listed(self, raw: msgspec.Raw) -> None:
        try:
            key, _ = self._observe(raw)
        except DecodeError as error:
            # An item without a name: nothing can be keyed by it, and the rest is good.
            key = ("", "")
            self._set_aside(key, "", error.message)
        self._seen.add(key)

    def _list_failed(self, failure: RequestFailed) -> _Outcome:
        code = code_of(failure)
        if code is TroubleCode.EXPIRED:
            self._restart_list()
            self._expired_lists += 1
            return self._expire(failure)
        if code in (TroubleCode.KIND_MISSING, TroubleCode.REJECTED):
            self._restart_list()  # it may be the token that is not accepted
        return self._fail(code, failure, _Outcome.RETRY)

    def _restart_list(self) -> None:
        self._token = ""
        self._list_version = ""
        self._seen.clear()

    # --- watching ---

    def _opened(self, _event: StreamOpened) -> _Outcome:
        self._opened_at = self._now
        self._heard()
        if self._trouble not in _STREAM_TROUBLES:
            self._recovered()
        return _Outcome.STAY

    def _line(self, event: LineReceived) -> _Outcome:
        self._heard()
        try:
            frame = decode_frame(event.line)
            if frame.type == "ERROR":
                status = decode_status(frame.object) or Status(message="an ERROR without a Status")
                return self._stream_failed(
                    RequestFailed(status.code, status.reason, status.message, status.retry_after)
                )
            if frame.type == "BOOKMARK":
                self._advance(decode_metadata(frame.object).resource_version)
            elif frame.type == "DELETED":
                metadata = decode_metadata(frame.object)
                key = named((metadata.namespace, metadata.name))
                self._advance(metadata.resource_version)
                if not older(metadata.resource_version, self._known.get(key, _NEVER).version):
                    self._removed(key)
            elif frame.type in ("ADDED", "MODIFIED"):
                _, version = self._observe(frame.object, in_order=True)
                self._advance(version)
        except DecodeError as error:
            return self._bad_line(error)
        # Any other type is of a newer server and about nothing that we asked for.
        self._bad_lines = 0
        if self._trouble is TroubleCode.MALFORMED:
            self._recovered()
        return _Outcome.STAY

    def _advance(self, version: str) -> None:
        if not version:
            raise DecodeError("the watch event carries no resourceVersion")
        if not older(version, self._version):
            self._version = version

    def _bad_line(self, error: DecodeError) -> _Outcome:
        self._bad_lines += 1
        self._out.append(StopWatch())
        failure = RequestFailed(0, message=error.message)
        if self._bad_lines < self._policy.bad_lines:
            return self._fail(TroubleCode.MALFORMED, failure, _Outcome.RETRY)
        self._bad_lines = 0
        return self._fail(TroubleCode.MALFORMED, failure, _Outcome.RELIST)

    def _stream_failed(self, failure: RequestFailed) -> _Outcome:
        self._out.append(StopWatch())
        return self._watch_failed(failure)

    def _watch_failed(self, failure: RequestFailed) -> _Outcome:
        self._judge_stream()
        code = code_of(failure)
        if code is TroubleCode.EXPIRED:
            return self._expire(failure)
        unusable = code in (TroubleCode.KIND_MISSING, TroubleCode.REJECTED)
        if unusable or version_too_new(failure):
            return self._fail(code, failure, _Outcome.RELIST)
        return self._fail(code, failure, _Outcome.RETRY)

    def _ended(self, event: StreamEnded) -> _Outcome:
        if self._judge_stream():
            self._deadline = self._now
            return _Outcome.RETRY
        message = event.error or "the server ended the watch as soon as it began"
        code = TroubleCode.STREAM_CUT if self._opened_at is not None else TroubleCode.UNREACHABLE
        return self._fail(code, RequestFailed(0, message=message), _Outcome.RETRY)

    def _overdue(self, _event: TimerFired) -> _Outcome:
        self._out.append(StopWatch())
        self._judge_stream()
        if self._now < self._ends_at:
            return _Outcome.SILENT
        self._deadline = self._now
        return _Outcome.RETRY

    def _probed(self, probe: ProbeAnswered) -> _Outcome:
        if not older(probe.version, self._version):
            return _Outcome.ALIVE
        self._deadline = self._now
        return _Outcome.RELIST

    def _probe_failed(self, failure: RequestFailed) -> _Outcome:
        return self._fail(code_of(failure), failure, _Outcome.RETRY)

    def _judge_stream(self) -> bool:
        """Whether the stream lived long enough to count as a success; counts it when so."""
        if self._opened_at is None:
            return False
        healthy = self._now - self._opened_at >= self._policy.healthy_stream_seconds
        if healthy:
            self._backoff.succeed()
            self._expired_in_a_row = 0
            self._recovered()
        return healthy

    # --- both ---

    def _due(self, _event: TimerFired) -> _Outcome:
        return _Outcome.DUE

    def _observe(self, raw: msgspec.Raw, *, in_order: bool = False) -> tuple[Key, str]:
        """Tell of an object, unless this very version was told already; its key and version.

        Args:
            raw: The object.
            in_order: Whether versions only rise here, so that a lower one is a repetition: so in
                a watch. A list is the truth even where it goes back.

        Raises:
            DecodeError: not even the name can be read.
        """
        try:
            decoded: Decoded[T] = self._decode(raw)
        except DecodeError as error:
            metadata = decode_metadata(raw)
            key = named((metadata.namespace, metadata.name))
            self._set_aside(key, metadata.resource_version, error.message)
            return key, metadata.resource_version
        key = named(decoded.key)
        known = self._known.get(key, _NEVER)
        if in_order and older(decoded.version, known.version):
            return key, decoded.version
        if not decoded.version or known.version != decoded.version:
            if known.uid and decoded.uid and known.uid != decoded.uid:
                self._removed(key)  # another object bears the name now
            self._known[key] = _Form(decoded.version, decoded.uid)
            self._out.append(Upsert(key, decoded.value))
        self._aside.pop(key, None)
        return key, decoded.version

    def _set_aside(self, key: Key, version: str, message: str) -> None:
        if self._aside.get(key) != (version, message):
            self._aside[key] = (version, message)
            self._out.append(SetAside(key, message))

    def _removed(self, key: Key, *, listed: bool = False) -> None:
        self._aside.pop(key, None)
        if self._known.pop(key, None) is not None:
            self._out.append(Remove(key, listed))

    def _expire(self, failure: RequestFailed) -> _Outcome:
        """Read all again: at once the first time, with growing delays when it does not help."""
        self._expired_in_a_row += 1
        if self._expired_in_a_row == 1:
            self._deadline = self._now
            return _Outcome.RELIST
        return self._fail(TroubleCode.EXPIRED, failure, _Outcome.RELIST)

    def _fail(self, code: TroubleCode, failure: RequestFailed, outcome: _Outcome) -> _Outcome:
        delay = self._backoff.fail(self._jitter, failure.retry_after)
        self._deadline = self._now + delay
        if self._trouble is None:
            self._trouble_since = self._now
        repeat = self._now - self._trouble_told >= self._policy.notice_repeat_seconds
        if code is not self._trouble or repeat:
            self._trouble = code
            self._trouble_told = self._now
            self._out.append(Trouble(code, failure.message, self._backoff.failures, delay))
        return outcome

    def _recovered(self) -> None:
        if self._trouble is not None:
            self._out.append(Recovered(self._now - self._trouble_since))
            self._trouble = None

    _HANDLERS: ClassVar[dict[tuple[State, type[Any]], Callable[[Any, Any], _Outcome]]] = {
        (State.IDLE, Start): _begin,
        (State.LISTING, PageReceived): _page,
        (State.LISTING, RequestFailed): _list_failed,
        (State.LIST_WAIT, TimerFired): _due,
        (State.WATCHING, StreamOpened): _opened,
        (State.WATCHING, LineReceived): _line,
        (State.WATCHING, StreamEnded): _ended,
        (State.WATCHING, RequestFailed): _watch_failed,
        (State.WATCHING, TimerFired): _overdue,
        (State.WATCH_WAIT, TimerFired): _due,
        (State.PROBING, ProbeAnswered): _probed,
        (State.PROBING, RequestFailed): _probe_failed,
    }
