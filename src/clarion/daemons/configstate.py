"""ConfigurationState: what this program thinks of the configuration, for `kubectl get`."""

from collections.abc import Sequence

import msgspec

from clarion.base.ports import Clock
from clarion.daemons.writer import Writer
from clarion.decide.problems import Problem
from clarion.edge.kubeclient import KubeClient, NotFoundError
from clarion.edge.logs import Log
from clarion.model.meta import Condition, ObjectKey, ObjectMeta
from clarion.model.metallb import ConfigurationState, ConfigurationStateStatus

SUMMARY_BYTES = 32_768
"""An error summary is cut here: a condition's message may hold no more."""


def problem_line(problem: Problem) -> str:
    """A problem in one line: object, field, what is wrong, what to do."""
    where = f"{problem.object}: {problem.path}: " if problem.path else f"{problem.object}: "
    remedy = f"; {problem.remedy}" if problem.remedy else ""
    return f"{where}{problem.message}{remedy}"


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


class ConfigState:
    """Keeps one ConfigurationState object equal to the last check of the configuration."""

    def __init__(
        self, client: KubeClient, writer: Writer, clock: Clock, condition: str, meta: ObjectMeta
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._condition = condition
        self._meta = meta
        self._judged: Sequence[Problem] | None = None
        self._reported: tuple[str, str] | None = None

    def report(self, problems: Sequence[Problem]) -> None:
        """Write the outcome of a check, if it differs from the last one."""
        if problems is self._judged:
            return
        self._judged = problems
        errors = [problem for problem in problems if problem.severity == "error"]
        summary = "\n".join(problem_line(problem) for problem in errors)
        summary = summary.encode()[:SUMMARY_BYTES].decode(errors="ignore")
        result = "Invalid" if errors else "Valid"
        if (result, summary) == self._reported:
            return
        self._reported = (result, summary)
        when = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = Condition(
            type=self._condition,
            status="False" if errors else "True",
            last_transition_time=when,
            reason="ConfigurationError" if errors else "Reconciled",
            message=f"configuration error: {summary}"[:SUMMARY_BYTES] if errors else "all valid",
        )
        status = ConfigurationStateStatus(
            result=result, error_summary=summary, conditions=(condition,)
        )
        self._writer.put(("ConfigurationState", self._meta.name), lambda: self._write(status))

    async def _write(self, status: ConfigurationStateStatus) -> None:
        key = ObjectKey(self._meta.namespace, self._meta.name)
        client = self._client
        try:
            known = await client.get(ConfigurationState, key)
        except NotFoundError:
            known = await client.create(ConfigurationState(metadata=self._meta))
        # An empty summary must be written too, or a merge would leave the old one.
        patch = {
            "status": {
                "result": status.result,
                "errorSummary": status.error_summary or None,
                "conditions": [_since(item, known.status.conditions) for item in status.conditions],
            }
        }
        await client.patch(ConfigurationState, key, patch, subresource="status")


def _since(condition: Condition, before: Sequence[Condition]) -> Condition:
    """The condition with the time of its last transition: a new text alone is none."""
    for old in before:
        if (old.type, old.status) == (
            condition.type,
            condition.status,
        ) and old.last_transition_time:
            return msgspec.structs.replace(condition, last_transition_time=old.last_transition_time)
    return condition
