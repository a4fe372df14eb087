"""ConfigurationState: MetalLB's names and result, every problem, bounded, with its remedy."""

from collections.abc import Callable, Sequence

import pytest

from clarion.base import limits
from clarion.daemons.configstate import (
    WARNINGS,
    ConfigState,
    bounded,
    problem_line,
    state_status,
    tell_problems,
)
from clarion.daemons.noderegistry import node_owner
from clarion.daemons.runtime import Runtime
from clarion.daemons.speaker import Speaker, SpeakerOptions
from clarion.decide.config import EMPTY, build_config
from clarion.decide.planner import plan
from clarion.decide.problems import Problem
from clarion.decide.snapshot import Snapshot
from clarion.edge.logs import Log
from clarion.model.meta import ObjectKey, ObjectMeta, OwnerReference
from clarion.model.metallb import ConfigurationState, ConfigurationStateStatus
from clarion.testing import builders
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, NoWaiting, StillClock, World, Writing, run, until

KEY = ObjectKey(SYSTEM, "controller")
META = ObjectMeta(name=KEY.name, namespace=KEY.namespace, labels={"a": "b"})
WHEN = "2026-01-01T00:00:00Z"
BAD = builders.pool("one", "192.0.2.0/33")
WORSE = builders.pool("two", "nonsense")
UNUSED = builders.pool("three", "198.51.100.0/24")


def problems_of(*objects: object, before: Snapshot | None = None) -> tuple[Problem, ...]:
    previous = build_config(before, EMPTY).config if before else EMPTY
    return build_config(Snapshot(pools=tuple(objects)), previous).problems  # type: ignore[arg-type]


class Kept:
    """A state that is kept in an API in memory, and read there."""

    def __init__(self) -> None:
        self.client, self.clock = MemoryClient(), StillClock()

    def play(self, *reports: Sequence[Problem]) -> ConfigurationStateStatus:
        """What stands there after these reports, a minute apart."""

        async def main() -> None:
            async with Writing() as writer:
                state = ConfigState(
                    self.client, writer, self.clock, "poolReconcilerValid", META, self.owners
                )
                for problems in reports:
                    state.report(problems)
                    await until(lambda: writer.idle)
                    self.clock.at += 60

        run(main)
        return self.client.read(ConfigurationState, KEY).status

    owners: Callable[[], tuple[OwnerReference, ...]] = staticmethod(tuple)


def texts(status: ConfigurationStateStatus) -> dict[str, tuple[str, str, str]]:
    return {item.type: (item.status, item.reason, item.message) for item in status.conditions}


def test_a_configuration_without_problems() -> None:
    status = Kept().play(())
    assert (status.result, status.error_summary) == ("Valid", "")
    assert texts(status) == {
        "poolReconcilerValid": ("True", "Reconciled", "all valid"),
        WARNINGS: ("False", "NoWarnings", "none"),
    }


def test_every_error_is_told_with_code_field_and_remedy() -> None:
    problems = problems_of(BAD, WORSE)
    status = Kept().play(problems)
    lines = status.error_summary.splitlines()
    errors = [item for item in problems if item.severity == "error"]
    assert len(errors) == len(lines) == 2
    for problem, line in zip(errors, lines, strict=True):
        for part in (problem.code, str(problem.object), problem.path, problem.remedy):
            assert part
            assert part in line
    assert status.result == "Invalid"
    message = "configuration error: " + status.error_summary
    assert texts(status)["poolReconcilerValid"] == ("False", "ConfigurationError", message)


def test_warnings_alone_leave_the_result_valid() -> None:
    problems = problems_of(UNUSED)
    assert {item.severity for item in problems} == {"warning"}
    status = Kept().play(problems)
    assert (status.result, status.error_summary) == ("Valid", "")
    told = texts(status)
    assert told["poolReconcilerValid"][:2] == ("True", "Reconciled")
    lines = "\n".join(map(problem_line, problems))
    assert told[WARNINGS] == ("True", "ConfigurationWarnings", lines)


def test_the_errors_say_what_is_in_force_instead() -> None:
    before = Snapshot(pools=(builders.pool("one", "192.0.2.0/24"),))
    status = Kept().play(problems_of(BAD, before=before))
    assert "[last-good-kept] IPAddressPool metallb-system/one" in status.error_summary
    assert "last-good-kept" not in texts(status)[WARNINGS][2]


def test_a_solved_problem_is_gone_and_a_new_text_is_no_transition() -> None:
    kept = Kept()
    first = kept.play(problems_of(BAD))
    second = kept.play(problems_of(BAD), problems_of(BAD, WORSE))
    assert first.conditions[0].last_transition_time == second.conditions[0].last_transition_time
    solved = kept.play(())
    assert (solved.result, solved.error_summary) == ("Valid", "")
    assert solved.conditions[0].last_transition_time != second.conditions[0].last_transition_time


def test_what_did_not_change_is_not_written_not_even_by_a_program_that_starts() -> None:
    kept = Kept()
    kept.play(problems_of(BAD))
    writes = len(kept.client.calls)
    kept.play(problems_of(BAD), problems_of(BAD))
    assert len(kept.client.calls) == writes


def test_an_object_of_metallb_is_taken_over_whole() -> None:
    kept = Kept()
    pod = OwnerReference(api_version="v1", kind="Pod", name="speaker-x7k2p", uid="1")
    kept.client.put(
        ConfigurationState(
            metadata=ObjectMeta(
                name=KEY.name, namespace=SYSTEM, labels={"its": "own"}, owner_references=(pod,)
            )
        )
    )
    node = builders.node("me")
    kept.owners = lambda: node_owner(node)
    kept.play(())
    meta = kept.client.read(ConfigurationState, KEY).metadata
    assert [(owner.kind, owner.name) for owner in meta.owner_references] == [("Node", "me")]
    assert meta.labels == {"its": "own", "a": "b"}


@pytest.mark.parametrize(
    ("lines", "most", "shown"),
    [
        ([], 10, ""),
        (["abc", "def"], 7, "abc\ndef"),
        (["abc", "def", "ghi"], 17, "abc\ndef\nghi"),
        (["abcdef", "abcdef", "abcdef", "abcdef"], 25, "abcdef\nabcdef\nand 2 more"),
        (["abcdef" * 9, "x"], 20, "abcdefabc\nand 1 more"),
    ],
)
def test_many_lines_are_cut_at_a_line(lines: list[str], most: int, shown: str) -> None:
    assert bounded(lines, most) == shown
    assert len(shown) <= most


def test_no_number_of_problems_makes_a_condition_too_long() -> None:
    lines = [f"[code] object {number}: ä{'x' * (number % 300)}" for number in range(5000)]
    status = state_status("poolReconcilerValid", lines, lines, WHEN)
    for condition in status.conditions:
        assert len(condition.message) <= limits.CONDITION_MESSAGE_CHARS
        last = condition.message.splitlines()[-1]
        told = len(condition.message.splitlines()) - 1
        assert last == f"and {5000 - told} more"


def test_names_and_labels_are_those_of_metallb() -> None:
    """Reference: `controller`, `speaker-NODE`, and the labels by which its tools select."""

    async def play() -> None:
        world = World()
        world.client.put(builders.pool("one", "192.0.2.0/24"))
        await world.settle()
        runtime = Runtime(
            "metallb-speaker", world.client, SYSTEM, clock=world.clock, entropy=NoWaiting()
        )
        speaker = Speaker(runtime, SpeakerOptions(node_name="n1"))
        task = runtime.tasks
        async with task:
            task.start("writer", speaker._writer.run)
            speaker._state.report(plan(Snapshot()).problems)
            await until(lambda: speaker._writer.idle)
        found = {
            key.name: world.client.read(ConfigurationState, key)
            for of, key in world.client.objects
            if of is ConfigurationState
        }
        assert {name: item.metadata.labels for name, item in found.items()} == {
            "controller": {"metallb.io/component-type": "controller"},
            "speaker-n1": {
                "metallb.io/component-type": "speaker",
                "metallb.io/node-name": "n1",
            },
        }
        first = {name: item.status.conditions[0].type for name, item in found.items()}
        assert first == {
            "controller": "poolReconcilerValid",
            "speaker-n1": "configReconcilerValid",
        }

    run(play)


def test_a_problem_is_logged_when_it_is_new(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "clarion")
    one, both = problems_of(BAD), problems_of(BAD, WORSE)
    tell_problems(Log("test"), (), one)
    tell_problems(Log("test"), one, both)
    tell_problems(Log("test"), both, ())
    told = [record.getMessage() for record in caplog.records]
    assert told.count("configuration problem") == len(both)
    assert told[-1] == "configuration has no problems any more"
