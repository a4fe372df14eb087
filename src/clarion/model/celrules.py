"""The validation rules of our own schemas, by the text of the rule.

The rules are written in the Common Expression Language for clusters; here each has its twin in
Python, so that manifests are judged alike without an interpreter of that language.
"""

from collections.abc import Callable, Iterator
from typing import Any

from clarion.base.duration import parse_duration
from clarion.base.errors import InvalidInputError
from clarion.model.schema_text import (
    AGGREGATION_RULE,
    CONNECT_RANGE_RULE,
    CONNECT_WHOLE_RULE,
    SET_ONCE_RULE,
)

_VALIDATIONS = "x-kubernetes-validations"


def _aggregation(spec: Any) -> bool:
    if not spec.get("serviceSelectors"):
        return True
    lengths = spec.get("aggregationLength"), spec.get("aggregationLengthV6")
    return lengths[0] in (None, 32) and lengths[1] in (None, 128)


def _connect_range(text: Any) -> bool:
    try:
        return 1 <= int(parse_duration(text)) <= 65535
    except InvalidInputError:
        return False


def _connect_whole(text: Any) -> bool:
    try:
        return int(parse_duration(text) * 1000) % 1000 == 0
    except InvalidInputError:
        return True  # said by the other rule already


_RULES: dict[str, Callable[[Any], bool]] = {
    AGGREGATION_RULE["rule"]: _aggregation,
    CONNECT_RANGE_RULE["rule"]: _connect_range,
    CONNECT_WHOLE_RULE["rule"]: _connect_whole,
}
_TRANSITIONS: dict[str, Callable[[Any, Any], bool]] = {
    SET_ONCE_RULE["rule"]: lambda value, old: bool(value == old),
}


def known_rules() -> frozenset[str]:
    """The text of every rule that has a twin here."""
    return frozenset(_RULES) | frozenset(_TRANSITIONS)


def broken_rules(schema: dict[str, Any], value: Any, *old: Any) -> Iterator[str]:
    """Messages of the rules that a value breaks; rules about changes count only with `old`."""
    for row in schema.get(_VALIDATIONS, ()):
        rule = row["rule"]
        if rule in _RULES:
            holds = _RULES[rule](value)
        elif rule in _TRANSITIONS and old:
            holds = _TRANSITIONS[rule](value, old[0])
        else:
            continue
        if not holds:
            yield row.get("message", f"breaks the rule {rule}")
