"""The condition on a Service that says whether it has an address, and why not, for kubectl."""

from clarion.base.limits import SERVICE_CONDITION_MESSAGE_CHARS
from clarion.decide.allocate import Outcome
from clarion.model.core import Service
from clarion.model.meta import Condition

ADDRESS_ASSIGNED = "clarion.metallb.io/AddressAssigned"
Told = tuple[str, str, str]
"""Status, reason and message."""


def camel(code: str) -> str:
    """The code of a reason as conditions spell it: `pool-exhausted` is `PoolExhausted`."""
    return "".join(part.capitalize() for part in code.split("-"))


def _cut(text: str) -> str:
    """What fits; `clarion explain` gives the whole."""
    return text[:SERVICE_CONDITION_MESSAGE_CHARS]


def told_by(outcome: Outcome) -> Told | None:
    """What the condition shall say; None if a service has nothing to do with addresses."""
    # The last reason is the one that stands for all.
    last = outcome.reasons[-1]
    if outcome.action in ("keep", "assign"):
        if outcome.waiting:
            return "True", camel(last.code), _cut(last.text)
        text = ", ".join(map(str, outcome.addresses))
        return "True", "AddressAssigned", f"{text} of pool {outcome.pool}"
    if outcome.action == "ignore" or last.code == "not-load-balancer":
        return None
    advice = f"; {last.remedy}" if last.remedy else ""
    return "False", camel(last.code), _cut(f"{last.text}{advice}")


def wanted_conditions(
    service: Service, outcome: Outcome, when: str
) -> tuple[Condition, ...] | None:
    """All conditions that the service shall have; None if it has them.

    Those of others stay as they are. A service that simply has its addresses and no condition of
    ours needs none: where Clarion takes over, it does not write about every service.

    Args:
        service: The service as it was judged.
        outcome: What was decided about it.
        when: The time, for a condition whose status changes.
    """
    others = tuple(item for item in service.status.conditions if item.type != ADDRESS_ASSIGNED)
    ours = next((i for i in service.status.conditions if i.type == ADDRESS_ASSIGNED), None)
    told = told_by(outcome)
    if told is None:
        return others if ours else None
    status, why, message = told
    if ours is None and outcome.action == "keep" and not outcome.waiting:
        return None
    if ours and (ours.status, ours.reason, ours.message) == told:
        return None
    since = ours.last_transition_time if ours and ours.status == status else None
    condition = Condition(
        type=ADDRESS_ASSIGNED,
        status=status,
        last_transition_time=since or when,
        reason=why,
        message=message,
    )
    return (*others, condition)
