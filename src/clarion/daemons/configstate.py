"""ConfigurationState: what this program thinks of the configuration, for `kubectl get`.

Name, labels, result, summary and the first condition are MetalLB's. It stops at the first error and
knows no warnings; here the summary holds every error, each with code, field and remedy, and says
where the last valid version of an object stays in force. Warnings have a condition of their own,
which leaves the result alone.
"""

from collections.abc import Callable, Sequence

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock
from clarion.daemons.writer import Writer
from clarion.decide.problems import Problem
from clarion.edge.kubeclient import KubeClient, NotFoundError
from clarion.edge.logs import Log
from clarion.model.meta import Condition, ObjectKey, ObjectMeta, OwnerReference
from clarion.model.metallb import ConfigurationState, ConfigurationStateStatus

WARNINGS = "clarion.metallb.io/Warnings"
_LAST_GOOD = "last-good-kept"
"""Code of a warning that belongs to errors: what is in force instead of the faulty object."""

Owners = Callable[[], tuple[OwnerReference, ...]]


def problem_line(problem: Problem) -> str:
    """A problem in one line: code, object, field, what is wrong, what to do."""
    where = f"{problem.object}: {problem.path}: " if problem.path else f"{problem.object}: "
    remedy = f"; {problem.remedy}" if problem.remedy else ""
    return f"[{problem.code}] {where}{problem.message}{remedy}"


def tell_problems(log: Log, before: Sequence[Problem], now: Sequence[Problem]) -> None:
    """Log the problems that are new, and say when all are gone."""
    known = set(map(problem_line, before))
    for problem in now:
        line = problem_line(problem)
        if line not in known:
            tell = log.error if problem.severity == "error" else log.warn
            tell("configuration problem", code=problem.code, problem=line)
    if before and not now:
        log.info("configuration has no problems any more")


def bounded(lines: Sequence[str], most: int) -> str:
    """The lines that fit into `most` characters, and how many more there are."""
    text = "\n".join(lines)
    if len(text) <= most:
        return text
    room = most - len(f"\nand {len(lines)} more")
    shown = text[: room + 1].rpartition("\n")[0].splitlines()
    # A first line that is too long by itself is cut: half of it is better than nothing.
    shown = shown or [text[:room].splitlines()[0]]
    rest = len(lines) - len(shown)
    return "\n".join((*shown, *([f"and {rest} more"] if rest else [])))


def state_status(
    condition: str, errors: Sequence[str], warnings: Sequence[str], when: str
) -> ConfigurationStateStatus:
    """The status that tells of these problems.

    Args:
        condition: Type of the condition that is False if there are errors.
        errors: One line each.
        warnings: One line each.
        when: The date and time, as Kubernetes writes it.
    """
    most = limits.CONDITION_MESSAGE_CHARS
    intro = "configuration error: "
    summary = bounded(errors, most - len(intro))
    judged = Condition(
        type=condition,
        status="False" if errors else "True",
        last_transition_time=when,
        reason="ConfigurationError" if errors else "Reconciled",
        message=f"{intro}{summary}" if errors else "all valid",
    )
    warned = Condition(
        type=WARNINGS,
        status="True" if warnings else "False",
        last_transition_time=when,
        reason="ConfigurationWarnings" if warnings else "NoWarnings",
        message=bounded(warnings, most) or "none",
    )
    return ConfigurationStateStatus(
        result="Invalid" if errors else "Valid",
        error_summary=summary,
        conditions=(judged, warned),
    )


async def write_state(
    client: KubeClient, meta: ObjectMeta, status: ConfigurationStateStatus
) -> None:
    """Bring the object to this status, with its labels and owners; create it if it is missing.

    Raises:
        ApiError: the API refuses or does not answer.
    """
    key = ObjectKey(meta.namespace, meta.name)
    try:
        known = await client.get(ConfigurationState, key)
    except NotFoundError:
        known = await client.create(ConfigurationState(metadata=meta))
    found = known.metadata
    if found.owner_references != meta.owner_references or not (
        meta.labels.items() <= found.labels.items()
    ):
        # MetalLB's object belongs to its Pod, and would go with it although we write to it now.
        owners = list(meta.owner_references) or None
        own = {"metadata": {"labels": meta.labels, "ownerReferences": owners}}
        await client.patch(ConfigurationState, key, own)
    conditions = tuple(_since(item, known.status.conditions) for item in status.conditions)
    if known.status == msgspec.structs.replace(status, conditions=conditions):
        return
    patch = {
        "status": {
            "result": status.result,
            # An empty summary must be written too, or a merge would leave the old one.
            "errorSummary": status.error_summary or None,
            "conditions": conditions,
        }
    }
    await client.patch(ConfigurationState, key, patch, subresource="status")


class ConfigState:
    """Keeps one ConfigurationState object equal to the last check of the configuration.

    Args:
        client: How to reach the API.
        writer: Performs the writes.
        clock: The clock.
        condition: Type of the condition that tells of errors.
        meta: Name, namespace and labels of the object.
        owners: With whom the object shall go, asked at each write.
    """

    def __init__(
        self,
        client: KubeClient,
        writer: Writer,
        clock: Clock,
        condition: str,
        meta: ObjectMeta,
        owners: Owners = tuple,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._condition = condition
        self._meta = meta
        self._owners = owners
        self._judged: Sequence[Problem] | None = None
        self._reported: tuple[list[str], list[str]] | None = None

    def report(self, problems: Sequence[Problem]) -> None:
        """Write the outcome of a check, if it differs from the last one."""
        if problems is self._judged:
            return
        self._judged = problems
        errors: list[str] = []
        warnings: list[str] = []
        for problem in problems:
            invalid = problem.severity == "error" or problem.code == _LAST_GOOD
            (errors if invalid else warnings).append(problem_line(problem))
        if (errors, warnings) == self._reported:
            return
        self._reported = errors, warnings
        when = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = state_status(self._condition, errors, warnings, when)
        self._writer.put(("ConfigurationState", self._meta.name), lambda: self._write(status))

    async def _write(self, status: ConfigurationStateStatus) -> None:
        meta = msgspec.structs.replace(self._meta, owner_references=self._owners())
        await write_state(self._client, meta, status)


def _since(condition: Condition, before: Sequence[Condition]) -> Condition:
    """The condition with the time of its last transition: a new text alone is none."""
    for old in before:
        if (old.type, old.status) == (
            condition.type,
            condition.status,
        ) and old.last_transition_time:
            return msgspec.structs.replace(condition, last_transition_time=old.last_transition_time)
    return condition
