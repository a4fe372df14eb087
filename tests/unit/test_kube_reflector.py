"""Every trap of list and watch, told to the machine as a server would tell it."""

import json
from typing import Any

import msgspec
import pytest

from clarion.base.errors import DecodeError
from clarion.proto.kube import reflector as m
from clarion.proto.kube.backoff import BackoffPolicy
from clarion.proto.kube.failures import RequestFailed, TroubleCode
from clarion.proto.kube.wire import Decoded

POLICY = m.Policy(
    page_items=2,
    watch_seconds=100.0,
    watch_idle_seconds=60.0,
    backoff=BackoffPolicy(base=1.0, cap=8.0),
    bad_lines=2,
)


class Thing(msgspec.Struct, frozen=True):
    """An object whose `size` is a number; anything else cannot be decoded."""

    metadata: dict[str, str]
    size: int


def decode(raw: bytes | msgspec.Raw) -> Decoded[int]:
    try:
        thing = msgspec.json.decode(raw, type=Thing)
    except msgspec.MsgspecError as error:
        raise DecodeError(str(error)) from error
    meta = thing.metadata
    key = meta.get("namespace", ""), meta.get("name", "")
    return Decoded(key, meta["resourceVersion"], thing.size, meta.get("uid", ""))


def obj(name: str, version: int, size: object = 0) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": name, "resourceVersion": str(version)}
    return {"metadata": meta, "size": size}


def line(kind: str, thing: object) -> bytes:
    return json.dumps({"type": kind, "object": thing}).encode()


def status(code: int, reason: str = "", message: str = "", wait: int = 0) -> dict[str, Any]:
    return {
        "kind": "Status",
        "code": code,
        "reason": reason,
        "message": message,
        "details": {"retryAfterSeconds": wait},
    }


class Driver:
    """Feeds the machine, applies what it says to a store, and keeps the commands."""

    def __init__(self) -> None:
        self.machine = m.Reflector(decode, POLICY)
        self.store: dict[str, int] = {}
        self.now = 1000.0
        self.out: list[m.Output[int]] = self.feed(m.Start())

    def feed(self, event: m.Input, after: float = 0.0, jitter: float = 0.0) -> list[m.Output[int]]:
        self.now += after
        self.out = self.machine.receive(event, self.now, jitter)
        for output in self.out:
            if isinstance(output, m.Upsert):
                self.store[output.key[1]] = output.value
            elif isinstance(output, m.Remove):
                del self.store[output.key[1]]
        return self.out

    def page(
        self, *things: dict[str, Any], version: int = 10, token: str = "", more: bool = False
    ) -> list[m.Output[int]]:
        items = [msgspec.Raw(json.dumps(thing).encode()) for thing in things]
        return self.feed(m.PageReceived(items, str(version), token, last_slice=not more))

    def line(self, kind: str, thing: object, after: float = 0.0) -> list[m.Output[int]]:
        return self.feed(m.LineReceived(line(kind, thing)), after)

    def fail(self, code: int, reason: str = "", wait: float = 0.0) -> list[m.Output[int]]:
        return self.feed(RequestFailed(code, reason, "told so", wait))

    def due(self) -> list[m.Output[int]]:
        """Let the time of the deadline come."""
        assert self.machine.deadline is not None
        self.now = max(self.now, self.machine.deadline)
        return self.feed(m.TimerFired())

    def watching(self, *things: dict[str, Any]) -> "Driver":
        """As after a first list and the acceptance of the watch."""
        self.page(*(things or (obj("a", 1, 1), obj("b", 2, 2))))
        self.feed(m.StreamOpened())
        return self

    def wait(self) -> float:
        assert self.machine.deadline is not None
        return self.machine.deadline - self.now


def only(outputs: list[m.Output[int]], kind: type[Any]) -> list[Any]:
    return [output for output in outputs if isinstance(output, kind)]


# --- listing --------------------------------------------------------------------------------


def test_the_first_thing_is_a_list_without_token() -> None:
    assert Driver().out == [m.StartList(2, "")]


def test_pages_are_followed_and_the_watch_starts_at_the_version_of_the_first() -> None:
    driver = Driver()
    assert driver.page(obj("a", 1, 1), obj("b", 2, 2), version=10, token="t1") == [
        m.Upsert(("ns", "a"), 1),
        m.Upsert(("ns", "b"), 2),
        m.StartList(2, "t1"),
    ]
    # A server that moves on between pages: watching from the older version repeats and loses none.
    assert driver.page(obj("c", 11, 3), version=12) == [
        m.Upsert(("ns", "c"), 3),
        m.Synced("10"),
        m.StartWatch("10", 100),
    ]
    assert driver.store == {"a": 1, "b": 2, "c": 3}


def test_a_page_may_come_in_slices() -> None:
    driver = Driver()
    assert driver.page(obj("a", 1), more=True, token="t1") == [m.Upsert(("ns", "a"), 0)]
    assert driver.page(obj("b", 2), token="t1")[-1] == m.StartList(2, "t1")


def test_an_empty_list_is_a_synced_list() -> None:
    assert Driver().page() == [m.Synced("10"), m.StartWatch("10", 100)]


def test_a_token_that_expired_restarts_the_list_without_it_at_once() -> None:
    driver = Driver()
    driver.page(obj("a", 1), obj("b", 2), token="t1")
    driver.fail(410, "Expired")
    assert driver.wait() == 0
    assert driver.due() == [m.StartList(2, "")]
    driver.page(obj("b", 2), version=20)
    assert driver.store == {"b": 0}, "what vanished between the attempts is gone"


def test_lists_that_keep_expiring_are_asked_for_in_one_piece() -> None:
    driver = Driver()
    for _ in range(2):
        driver.page(obj("a", 1), obj("b", 2), token="t1")
        driver.fail(410)
        driver.due()
    assert driver.out == [m.StartList(0, "")]


def test_a_failed_page_is_asked_for_again_with_its_token() -> None:
    driver = Driver()
    driver.page(obj("a", 1), obj("b", 2), token="t1")
    for code in (503, 429, 0):
        driver.fail(code)
        assert driver.due() == [m.StartList(2, "t1")]


def test_a_rejected_token_is_dropped() -> None:
    driver = Driver()
    driver.page(obj("a", 1), obj("b", 2), token="t1")
    driver.fail(400, "BadRequest")
    assert driver.due() == [m.StartList(2, "")]


def test_a_server_that_repeats_a_page_does_not_hold_us_for_ever() -> None:
    driver = Driver()
    driver.page(obj("a", 1), token="t1")
    out = driver.page(obj("a", 1), token="t1")
    assert only(out, m.Trouble)[0].code is TroubleCode.MALFORMED
    assert driver.due() == [m.StartList(2, "")]


@pytest.mark.parametrize(
    ("code", "reason", "trouble"),
    [
        (0, "", TroubleCode.UNREACHABLE),
        (401, "Unauthorized", TroubleCode.REFUSED),
        (403, "Forbidden", TroubleCode.REFUSED),
        (404, "NotFound", TroubleCode.KIND_MISSING),
        (429, "TooManyRequests", TroubleCode.THROTTLED),
        (500, "InternalError", TroubleCode.SERVER_ERROR),
        (504, "Timeout", TroubleCode.SERVER_ERROR),
        (400, "BadRequest", TroubleCode.REJECTED),
    ],
)
def test_no_failure_of_a_list_removes_anything(
    code: int, reason: str, trouble: TroubleCode
) -> None:
    driver = Driver().watching()
    driver.line("ERROR", status(410, "Expired"))
    driver.due()
    told = []
    for _ in range(50):
        out = driver.fail(code, reason)
        assert not only(out, m.Remove)
        told += only(out, m.Trouble)
        assert isinstance(driver.due()[-1], m.StartList)
    assert {notice.code for notice in told} == {trouble}
    assert 1 < len(told) < 10, "a lasting trouble is told now and then, not each time"
    assert driver.store == {"a": 1, "b": 2}
    out = driver.page(obj("a", 1, 1), version=99)
    assert out[0] == m.Remove(("ns", "b"), listed=True), "only a list read to its end removes"
    assert only(out, m.Recovered)
    assert only(out, m.Synced) == [m.Synced("99")]


# --- relisting ------------------------------------------------------------------------------


def test_a_relist_replaces_the_store_by_differences() -> None:
    driver = Driver().watching(obj("a", 1, 1), obj("b", 2, 2), obj("c", 3, 3))
    driver.line("ERROR", status(410, "Expired"))
    assert driver.out[0] == m.StopWatch()
    assert driver.due() == [m.StartList(2, "")]
    out = driver.page(obj("a", 1, 1), obj("b", 5, 20), obj("d", 6, 4), version=30)
    assert out == [
        m.Upsert(("ns", "b"), 20),
        m.Upsert(("ns", "d"), 4),
        m.Remove(("ns", "c"), listed=True),
        m.Synced("30"),
        m.StartWatch("30", 100),
    ]


def test_a_deleted_and_recreated_object_is_told_as_a_change() -> None:
    driver = Driver().watching(obj("a", 1, 1))
    driver.line("ERROR", status(410))
    driver.due()
    assert driver.page(obj("a", 40, 9))[0] == m.Upsert(("ns", "a"), 9)


def named(uid: str, version: int) -> dict[str, Any]:
    thing = obj("a", version)
    thing["metadata"]["uid"] = uid
    return thing


def test_another_object_of_the_same_name_is_told_as_a_deletion_and_a_new_one() -> None:
    driver = Driver().watching(named("u1", 1))
    driver.line("ERROR", status(410))
    driver.due()
    out = driver.page(named("u2", 40))
    assert out[:2] == [m.Remove(("ns", "a")), m.Upsert(("ns", "a"), 0)]
    driver.feed(m.StreamOpened())
    assert driver.line("MODIFIED", named("u2", 41)) == [m.Upsert(("ns", "a"), 0)]
    out = driver.line("MODIFIED", named("u3", 42))
    assert out == [m.Remove(("ns", "a")), m.Upsert(("ns", "a"), 0)]


def test_an_error_frame_without_code_expires_by_its_reason() -> None:
    driver = Driver().watching()
    driver.line("ERROR", status(0, "Expired"))
    assert driver.due() == [m.StartList(2, "")]


def test_a_server_that_expires_every_watch_is_not_hammered() -> None:
    driver = Driver()
    waits = []
    for _ in range(5):
        driver.watching()
        driver.line("ERROR", status(410, "Expired"))
        waits.append(driver.wait())
        driver.due()
    assert waits == [0, 0.5, 1, 2, 4]


def test_after_a_watch_that_lived_an_expiry_is_answered_at_once_again() -> None:
    driver = Driver().watching()
    driver.line("ERROR", status(410))
    driver.due()
    driver.watching()
    driver.line("ERROR", status(410), after=60)
    assert driver.wait() == 0


# --- watching -------------------------------------------------------------------------------


def test_events_change_the_store_and_move_the_version() -> None:
    driver = Driver().watching()
    assert driver.line("ADDED", obj("c", 11, 3)) == [m.Upsert(("ns", "c"), 3)]
    assert driver.line("MODIFIED", obj("c", 12, 4)) == [m.Upsert(("ns", "c"), 4)]
    assert driver.line("DELETED", obj("a", 13)) == [m.Remove(("ns", "a"))]
    assert driver.store == {"b": 2, "c": 4}
    assert driver.machine.version == "13"


def test_a_bookmark_moves_only_the_version() -> None:
    driver = Driver().watching()
    mark = {"metadata": {"resourceVersion": "77", "creationTimestamp": None}}
    assert driver.line("BOOKMARK", mark) == []
    driver.feed(m.StreamEnded(), after=50)
    assert driver.due() == [m.StartWatch("77", 100)]


@pytest.mark.parametrize("error", ["", "connection reset by peer"])
def test_a_stream_that_ends_is_resumed_at_once_where_it_was(error: str) -> None:
    driver = Driver().watching()
    driver.line("MODIFIED", obj("a", 15, 5))
    assert driver.feed(m.StreamEnded(error), after=30) == []
    assert driver.wait() == 0
    assert driver.due() == [m.StartWatch("15", 100)]


def test_streams_that_end_as_they_begin_are_resumed_with_growing_delays() -> None:
    driver = Driver().watching()
    waits = []
    for _ in range(6):
        driver.feed(m.StreamEnded(), after=0.01)
        waits.append(driver.wait())
        driver.due()
        driver.feed(m.StreamOpened())
    assert waits == [0.5, 1, 2, 4, 4, 4]
    driver.feed(m.StreamEnded(), after=5)
    assert driver.wait() == 0
    assert only(driver.out, m.Recovered)


def test_events_that_come_twice_are_told_once() -> None:
    driver = Driver().watching()
    driver.line("MODIFIED", obj("a", 15, 5))
    assert driver.line("MODIFIED", obj("a", 15, 5)) == []
    driver.line("DELETED", obj("a", 16))
    assert driver.line("DELETED", obj("a", 16)) == []


def test_events_from_before_what_is_known_change_nothing() -> None:
    driver = Driver().watching()
    driver.line("MODIFIED", obj("a", 15, 5))
    assert driver.line("MODIFIED", obj("a", 12, 4)) == []
    assert driver.line("DELETED", obj("a", 14)) == []
    assert driver.machine.version == "15"
    # An old server puts the last stored version into a deletion.
    assert driver.line("DELETED", obj("a", 15)) == [m.Remove(("ns", "a"))]


def test_versions_that_are_no_numbers_are_never_compared() -> None:
    driver = Driver().watching()
    thing = obj("a", 0, 7)
    for version in ("zz", "aa"):
        thing["metadata"]["resourceVersion"] = version
        assert driver.line("MODIFIED", thing) == [m.Upsert(("ns", "a"), 7)]
        assert driver.machine.version == version


def test_a_list_may_go_back_as_after_a_restore_from_a_backup() -> None:
    driver = Driver().watching(obj("a", 900, 9))
    driver.line("ERROR", status(410))
    driver.due()
    assert driver.page(obj("a", 5, 1), version=6)[0] == m.Upsert(("ns", "a"), 1)
    driver.feed(m.StreamOpened())
    assert driver.line("MODIFIED", obj("a", 7, 2)) == [m.Upsert(("ns", "a"), 2)]


def test_a_throttled_watch_waits_as_long_as_it_is_told_to() -> None:
    driver = Driver()
    driver.page()
    driver.fail(429, "TooManyRequests", wait=17)
    assert driver.wait() == 17
    assert driver.due() == [m.StartWatch("10", 100)]


def test_an_absurd_wait_is_bounded() -> None:
    driver = Driver()
    driver.fail(503, wait=1e9)
    assert driver.wait() == POLICY.backoff.retry_after_cap


def test_a_throttle_inside_the_stream_is_obeyed_too() -> None:
    driver = Driver().watching()
    assert driver.line("ERROR", status(429, "TooManyRequests", wait=9))[0] == m.StopWatch()
    assert driver.wait() == 9
    assert driver.due() == [m.StartWatch("10", 100)]


@pytest.mark.parametrize("code", [0, 401, 403, 500, 503])
def test_a_watch_that_fails_is_tried_again_from_the_same_version(code: int) -> None:
    driver = Driver().watching()
    driver.line("MODIFIED", obj("a", 15, 5))
    driver.feed(m.StreamEnded(), after=10)
    driver.due()
    for _ in range(5):
        driver.fail(code)
        assert driver.due() == [m.StartWatch("15", 100)]
    assert driver.store == {"a": 5, "b": 2}


@pytest.mark.parametrize(
    "failure",
    [
        RequestFailed(410, "Gone"),
        RequestFailed(404, "NotFound"),
        RequestFailed(400, "BadRequest", "invalid resource version"),
        RequestFailed(504, "Timeout", "Too large resource version: 900, current: 40"),
    ],
)
def test_a_version_that_the_server_cannot_go_on_from_is_dropped(failure: RequestFailed) -> None:
    driver = Driver().watching()
    driver.feed(m.StreamEnded(), after=10)
    driver.due()
    driver.feed(failure)
    assert driver.due() == [m.StartList(2, "")]
    assert driver.store == {"a": 1, "b": 2}


def test_a_stream_past_its_end_is_left_and_resumed() -> None:
    driver = Driver().watching()
    for version in range(11, 24):
        driver.line("BOOKMARK", {"metadata": {"resourceVersion": str(version)}}, after=9.9)
    assert driver.wait() == pytest.approx(130 - 13 * 9.9)
    assert driver.due() == [m.StopWatch()]
    assert driver.due() == [m.StartWatch("23", 100)]


def test_a_silent_stream_is_left_and_the_server_asked_if_it_lives() -> None:
    driver = Driver()
    driver.page(obj("a", 1, 1))
    assert driver.wait() == 60, "also while the answer is awaited"
    driver.feed(m.StreamOpened(), after=5)
    assert driver.wait() == 60
    driver.line("ADDED", obj("b", 11), after=50)
    assert driver.wait() == 60, "any line is a sign of life"
    assert driver.due() == [m.StopWatch(), m.StartProbe()]
    assert driver.feed(m.ProbeAnswered("11")) == [m.StartWatch("11", 100)]
    assert driver.due() == [m.StopWatch(), m.StartProbe()]
    assert only(driver.fail(0), m.Trouble)[0].code is TroubleCode.UNREACHABLE
    assert driver.due() == [m.StartWatch("11", 100)]
    assert driver.store == {"a": 1, "b": 0}


def test_a_silent_server_that_went_back_in_time_is_read_anew() -> None:
    driver = Driver().watching()
    driver.due()
    driver.feed(m.ProbeAnswered("9"))
    assert driver.wait() == 0
    assert driver.due() == [m.StartList(2, "")]


@pytest.mark.parametrize(
    "bad",
    [
        b'{"type":"ADDED","object":{"metadata":{"name":"x"',  # cut in the middle
        b"<html>502 Bad Gateway</html>",
        b'"ADDED"',
        b'{"object":{}}',
        b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"5"}}}',  # no name
        b'{"type":"ADDED","object":7}',
        b'{"type":"BOOKMARK","object":{"metadata":{}}}',
        b'{"type":"DELETED","object":{"metadata":{"name":"a","namespace":"ns"}}}'[:-10],
        b"\xff\xfe\x00",
    ],
)
def test_a_bad_line_ends_the_stream_and_changes_nothing(bad: bytes) -> None:
    driver = Driver().watching()
    out = driver.feed(m.LineReceived(bad))
    assert out[0] == m.StopWatch()
    assert only(out, m.Trouble)[0].code is TroubleCode.MALFORMED
    assert driver.store == {"a": 1, "b": 2}
    assert driver.due() == [m.StartWatch("10", 100)]
    driver.feed(m.StreamOpened())
    driver.feed(m.LineReceived(bad))
    assert driver.due() == [m.StartList(2, "")], "the same again: read all anew"


def test_a_type_of_the_future_is_passed_over() -> None:
    driver = Driver().watching()
    assert driver.line("SPARKLED", {"metadata": {}}) == []


# --- objects that cannot be read --------------------------------------------------------------


def test_an_unreadable_object_is_set_aside_and_the_watch_goes_on() -> None:
    driver = Driver().watching()
    out = driver.line("ADDED", obj("x", 20, "huge"))
    assert [type(output) for output in out] == [m.SetAside]
    (told,) = only(out, m.SetAside)
    assert driver.machine.set_aside == {told.key: told.message}
    assert driver.machine.version == "20"
    assert driver.line("MODIFIED", obj("x", 21, 7)) == [m.Upsert(("ns", "x"), 7)]
    assert driver.machine.set_aside == {}
    driver.line("ADDED", obj("y", 22, "huge"))
    assert driver.line("DELETED", obj("y", 23, "huge")) == []
    assert driver.machine.set_aside == {}, "gone, though it was never told"


def test_an_object_that_becomes_unreadable_keeps_its_last_good_form() -> None:
    driver = Driver().watching()
    driver.line("MODIFIED", obj("a", 20, "huge"))
    assert driver.machine.version == "20"
    assert driver.store == {"a": 1, "b": 2}
    driver.line("ERROR", status(410))
    driver.due()
    out = driver.page(obj("a", 20, "huge"), obj("b", 2, 2))
    assert out == [m.Synced("10"), m.StartWatch("10", 100)], "told once, and still there"
    assert driver.line("DELETED", obj("a", 22, "huge")) == [m.Remove(("ns", "a"))]


def test_an_unreadable_object_that_is_gone_after_a_relist_is_forgotten() -> None:
    driver = Driver().watching()
    driver.line("ADDED", obj("x", 20, "huge"))
    driver.line("ERROR", status(410))
    driver.due()
    driver.page(obj("a", 1, 1), obj("b", 2, 2))
    assert driver.machine.set_aside == {}


def test_a_list_item_without_a_name_spoils_nothing() -> None:
    driver = Driver()
    out = driver.page({"metadata": {"resourceVersion": "1"}, "size": 1}, obj("a", 1))
    assert [type(output) for output in out] == [m.SetAside, m.Upsert, m.Synced, m.StartWatch]
    assert driver.machine.set_aside == {("", ""): "the object has no name"}


# --- notices and misuse -----------------------------------------------------------------------


def test_trouble_is_told_when_it_begins_and_changes_and_its_end_with_its_length() -> None:
    driver = Driver()
    assert only(driver.fail(0), m.Trouble)[0].failures == 1
    driver.due()
    assert not only(driver.fail(0), m.Trouble)
    driver.due()
    assert only(driver.fail(503), m.Trouble)[0].code is TroubleCode.SERVER_ERROR
    driver.due()
    assert only(driver.page(), m.Recovered) == [m.Recovered(3.5)]


def test_an_hour_without_api_ends_in_one_clean_resync() -> None:
    driver = Driver().watching()
    driver.feed(m.StreamEnded("reset"), after=100)
    started = driver.now
    while driver.now < started + 3600:
        driver.due()
        assert not only(driver.fail(0), m.Remove)
    driver.due()
    driver.fail(410, "Expired")
    driver.due()
    out = driver.page(obj("a", 1, 1), obj("b", 3, 3), version=5000)
    assert out[0] == m.Upsert(("ns", "b"), 3)
    assert driver.store == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("prepare", "event"),
    [
        ("start", m.Start()),
        ("start", m.LineReceived(b"{}")),
        ("start", m.TimerFired()),
        ("watch", m.PageReceived([], "1", "")),
        ("wait", m.StreamEnded()),
        ("wait", RequestFailed(500)),
    ],
)
def test_inputs_out_of_place_are_faults_of_the_caller(prepare: str, event: m.Input) -> None:
    driver = Driver()
    if prepare == "watch":
        driver.watching()
    elif prepare == "wait":
        driver.fail(500)
    with pytest.raises(m.UnexpectedInputError):
        driver.feed(event)


def test_every_state_but_the_first_can_be_reached_and_left() -> None:
    reached = set(m.TRANSITIONS.values())
    left = {state for state, _ in m.TRANSITIONS}
    assert reached == set(m.State) - {m.State.IDLE}
    assert left == set(m.State)
