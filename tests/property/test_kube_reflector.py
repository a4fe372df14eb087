"""Whatever a server may do to its clients, the store ends up equal to the server's state."""

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.errors import DecodeError
from clarion.proto.kube import reflector as m
from clarion.proto.kube.backoff import BackoffPolicy
from clarion.proto.kube.failures import RequestFailed
from clarion.proto.kube.wire import Decoded, LineSplitter

NAMES = "abcdef"
POLICY = m.Policy(page_items=2, backoff=BackoffPolicy(base=1.0, cap=8.0))


class Thing(msgspec.Struct, frozen=True):
    metadata: dict[str, str]
    size: int


def decode(raw: bytes | msgspec.Raw) -> Decoded[int]:
    try:
        thing = msgspec.json.decode(raw, type=Thing)
    except msgspec.MsgspecError as error:
        raise DecodeError(str(error)) from error
    return Decoded(("", thing.metadata["name"]), thing.metadata["resourceVersion"], thing.size)


class Server:
    """The part of an API server that clients see, with its history."""

    def __init__(self, *, snapshots: bool, old_deletions: bool) -> None:
        self.snapshots = snapshots  # pages of one list agree with one another
        self.old_deletions = old_deletions  # a DELETED event holds the last stored version
        self.revision = 1
        self.objects: dict[str, tuple[int, int]] = {}
        self.history: list[tuple[int, str, str, int, int]] = []  # revision, type, name, rv, size
        self.floor = 0
        self.deletions: dict[str, list[int]] = {}

    def put(self, name: str, size: int) -> None:
        self.revision += 1
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = (self.revision, size)
        self.history.append((self.revision, kind, name, self.revision, size))

    def drop(self, name: str) -> None:
        if name not in self.objects:
            return
        self.revision += 1
        version, size = self.objects.pop(name)
        shown = version if self.old_deletions else self.revision
        self.history.append((self.revision, "DELETED", name, shown, size))
        self.deletions.setdefault(name, []).append(self.revision)

    def compact(self) -> None:
        self.floor = self.revision


def render(name: str, version: int, size: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "size": size}


class World:
    """One machine, its store, the request in flight, and the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.machine = m.Reflector(decode, POLICY)
        self.store: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.now = 0.0
        self.asked: m.StartList | m.StartWatch | m.StartProbe | None = None
        self.open = False
        self.sent = 0  # the watch has told all of the history up to this revision
        self.last_line = b""
        self.splitter = LineSplitter(1 << 20)
        self.frozen: dict[str, tuple[int, dict[str, tuple[int, int]]]] = {}
        self.feed(m.Start())

    def feed(self, event: m.Input) -> None:
        for output in self.machine.receive(event, self.now, 0.5):
            match output:
                case m.StartList() | m.StartWatch() | m.StartProbe():
                    self.asked, self.open = output, False
                case m.StopWatch():
                    self.asked, self.open = None, False
                case m.Upsert(key, value):
                    self.store[key[1]] = value
                case m.Remove(key):
                    self.removed(key[1])
                case _:
                    pass

    def removed(self, name: str) -> None:
        told = self.versions.get(name, 0)
        deletions = self.server.deletions.get(name, [])
        assert any(revision > told for revision in deletions), f"{name} was never deleted"
        del self.store[name]

    def note_versions(self, things: list[dict[str, Any]]) -> None:
        for thing in things:
            meta = thing["metadata"]
            version = int(meta["resourceVersion"])
            self.versions[meta["name"]] = max(version, self.versions.get(meta["name"], 0))

    # --- what the server does ---

    def answer(self) -> None:
        if isinstance(self.asked, m.StartList):
            self.answer_list(self.asked)
        elif isinstance(self.asked, m.StartProbe):
            self.asked = None
            self.feed(m.ProbeAnswered(str(self.server.revision)))
        elif isinstance(self.asked, m.StartWatch) and not self.open:
            version = int(self.asked.version)
            if version < self.server.floor:
                self.refuse(410)
                return
            self.open, self.sent = True, version
            self.splitter = LineSplitter(1 << 20)
            self.feed(m.StreamOpened())

    def answer_list(self, asked: m.StartList) -> None:
        server = self.server
        after, frozen_at = "", server.revision
        if asked.token:
            after, _, at = asked.token.partition("@")
            frozen_at = int(at)
            if frozen_at < server.floor:
                self.refuse(410)
                return
        if asked.token and server.snapshots:
            revision, objects = self.frozen[asked.token.partition("@")[2]]
        else:
            revision, objects = server.revision, dict(server.objects)
            self.frozen[str(revision)] = (revision, objects)
        names = sorted(name for name in objects if name > after)
        chosen = names[: asked.limit] if asked.limit else names
        token = f"{chosen[-1]}@{revision}" if len(chosen) < len(names) else ""
        things = [render(name, *objects[name]) for name in chosen]
        items = [msgspec.Raw(json.dumps(thing).encode()) for thing in things]
        self.note_versions(things)
        self.asked = None
        self.feed(m.PageReceived(items, str(revision), token))

    def refuse(self, code: int) -> None:
        if self.open:
            self.error_frame(code)
        elif self.asked is not None:
            self.asked = None
            self.feed(RequestFailed(code, "", "no"))

    def error_frame(self, code: int) -> None:
        self.write(json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": code}}))

    def write(self, text: str) -> None:
        data = text.encode() + b"\n"
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            for line in self.splitter.feed(half):
                self.last_line = line
                self.feed(m.LineReceived(line))

    def deliver(self, count: int) -> None:
        for revision, kind, name, version, size in list(self.server.history):
            if not self.open or count == 0:
                return
            if revision > self.sent:
                self.sent = revision
                count -= 1
                thing = render(name, version, size)
                if kind != "DELETED":
                    self.note_versions([thing])
                self.write(json.dumps({"type": kind, "object": thing}))

    def bookmark(self) -> None:
        if self.open and self.sent >= self.server.revision:
            mark = {"metadata": {"resourceVersion": str(self.server.revision)}}
            self.write(json.dumps({"type": "BOOKMARK", "object": mark}))

    def repeat(self) -> None:
        if self.open and self.last_line:
            self.feed(m.LineReceived(self.last_line))

    def cut(self, *, in_a_line: bool) -> None:
        if not self.open:
            return
        if in_a_line:
            list(self.splitter.feed(b'{"type":"DELETED","object":{"metadata":{"na'))
        self.open, self.asked = False, None
        self.feed(m.StreamEnded("cut" if in_a_line else ""))

    def garble(self) -> None:
        if self.open:
            self.feed(m.LineReceived(b'{"type":"DELETED","obj'))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.machine.deadline
        if deadline is not None and deadline <= self.now:
            if self.machine.state is m.State.WATCHING:
                self.asked, self.open = None, False
            self.feed(m.TimerFired())

    def settle(self) -> None:
        """No more faults: within a bounded number of steps the store is the server's state."""
        for _ in range(40):
            self.answer()
            if self.open:
                self.deliver(10_000)
            if self.open and self.sent >= self.server.revision:
                return
            self.wait(400.0 if self.asked is None else 0.0)
        raise AssertionError(f"stuck in {self.machine.state}")


STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(0, 9)),
    st.tuples(st.just("drop"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("answer"), st.just(""), st.just(0)),
    st.tuples(st.just("deliver"), st.just(""), st.integers(1, 3)),
    st.tuples(st.just("refuse"), st.just(""), st.sampled_from([0, 401, 404, 410, 429, 500, 504])),
    st.tuples(
        st.sampled_from(["compact", "bookmark", "repeat", "cut", "cut in a line", "garble"]),
        st.just(""),
        st.just(0),
    ),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([0, 1, 5, 400])),
)


def act(world: World, op: str, name: str, number: int) -> None:
    match op:
        case "put":
            world.server.put(name, number)
        case "drop":
            world.server.drop(name)
        case "compact":
            world.server.compact()
        case "answer":
            world.answer()
        case "deliver":
            world.deliver(number)
        case "refuse":
            world.refuse(number)
        case "bookmark":
            world.bookmark()
        case "repeat":
            world.repeat()
        case "cut":
            world.cut(in_a_line=False)
        case "cut in a line":
            world.cut(in_a_line=True)
        case "garble":
            world.garble()
        case "wait":
            world.wait(number)


@settings(derandomize=True, max_examples=600, deadline=None)
@given(st.lists(STEPS, max_size=60), st.booleans(), st.booleans())
def test_the_store_ends_equal_to_the_server_and_nothing_is_removed_without_cause(
    steps: list[tuple[str, str, int]], snapshots: bool, old_deletions: bool
) -> None:
    world = World(Server(snapshots=snapshots, old_deletions=old_deletions))
    for name in NAMES[:4]:
        world.server.put(name, 1)
    for step in steps:
        act(world, *step)
    world.settle()
    assert world.store == {name: size for name, (_, size) in world.server.objects.items()}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=30), st.lists(st.sampled_from([0, 401, 404, 429, 500, 504])))
def test_while_the_server_only_fails_nothing_is_removed(
    steps: list[tuple[str, str, int]], failures: list[int]
) -> None:
    world = World(Server(snapshots=True, old_deletions=False))
    for step in steps:
        act(world, *step)
    world.settle()
    before = dict(world.store)
    world.server.objects.clear()  # behind the client's back
    world.cut(in_a_line=True)
    for failure in failures:
        world.wait(1000.0)
        world.refuse(failure)
        assert world.store == before
