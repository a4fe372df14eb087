"""Label selectors: does it match, is it well formed (Kubernetes `metav1.LabelSelector`)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from clarion.model.meta import LabelSelector, LabelSelectorRequirement

Labels = Mapping[str, str]

# Operator -> what its expression demands of the labels. An absent key satisfies NotIn.
_OPERATORS: dict[str, Callable[[LabelSelectorRequirement, Labels], bool]] = {
    "In": lambda rule, labels: rule.key in labels and labels[rule.key] in rule.values,
    "NotIn": lambda rule, labels: rule.key not in labels or labels[rule.key] not in rule.values,
    "Exists": lambda rule, labels: rule.key in labels,
    "DoesNotExist": lambda rule, labels: rule.key not in labels,
}
# The rules of Kubernetes for keys and values of labels.
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_CHARS, _DOMAIN_CHARS = 63, 253
_RULE = (
    f"up to {_NAME_CHARS} letters, digits, '-', '_' and '.', of which the first and the last are "
    "letters or digits"
)
_TAKES_VALUES = {"In": True, "NotIn": True, "Exists": False, "DoesNotExist": False}


def matches(selector: LabelSelector, labels: Labels) -> bool:
    """True if all parts of the selector hold; an empty selector matches everything."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _OPERATORS[rule.operator](rule, labels) for rule in selector.match_expressions
    )


def any_matches(selectors: Iterable[LabelSelector], labels: Labels) -> bool:
    """True if one selector of the list matches: lists of selectors are alternatives."""
    return any(matches(selector, labels) for selector in selectors)


def selects(selectors: tuple[LabelSelector, ...], labels: Labels) -> bool:
    """As `any_matches`, and an empty list selects everything."""
    return not selectors or any_matches(selectors, labels)


class SelectorFault(NamedTuple):
    """What makes a selector unusable: where, as a path below the selector, and why."""

    path: str
    text: str


def faults(selector: LabelSelector) -> Iterator[SelectorFault]:
    """What makes a selector unusable: what Kubernetes refuses, and what stands twice."""
    for key, value in selector.match_labels.items():
        path = f".matchLabels[{key}]"
        if fault := _key_fault(key) or _value_fault(value):
            yield SelectorFault(path, fault)
    seen: list[LabelSelectorRequirement] = []
    for index, rule in enumerate(selector.match_expressions):
        path = f".matchExpressions[{index}]"
        if fault := _key_fault(rule.key):
            yield SelectorFault(f"{path}.key", fault)
        yield from _rule_faults(rule, path)
        if rule in seen:
            yield SelectorFault(path, f"the expression on key {rule.key!r} stands twice")
        seen.append(rule)


def _rule_faults(rule: LabelSelectorRequirement, path: str) -> Iterator[SelectorFault]:
    """Operator and values of one expression."""
    if rule.operator not in _OPERATORS:
        known = ", ".join(_OPERATORS)
        text = f"operator {rule.operator!r} of key {rule.key!r} is not one of {known}"
        yield SelectorFault(f"{path}.operator", text)
    elif _TAKES_VALUES[rule.operator] and not rule.values:
        text = f"{rule.operator} of key {rule.key!r} needs at least one value"
        yield SelectorFault(f"{path}.values", text)
    elif not _TAKES_VALUES[rule.operator] and rule.values:
        text = f"{rule.operator} of key {rule.key!r} takes no values"
        yield SelectorFault(f"{path}.values", text)
    for index, value in enumerate(rule.values):
        where = f"{path}.values[{index}]"
        if fault := _value_fault(value):
            yield SelectorFault(where, fault)
        if value in rule.values[:index]:
            yield SelectorFault(where, f"value {value!r} of key {rule.key!r} stands twice")


def _key_fault(key: str) -> str:
    """Why a text cannot be the key of a label; empty if it can."""
    domain, slash, name = key.rpartition("/")
    if not key:
        return "a label has no key"
    if slash and not (_DOMAIN.fullmatch(domain) and len(domain) <= _DOMAIN_CHARS):
        return f"{key!r} is no key of a label: before the slash stands no lower-case domain name"
    if not _NAME.fullmatch(name) or len(name) > _NAME_CHARS:
        return f"{key!r} is no key of a label: {_RULE}"
    return ""


def _value_fault(value: str) -> str:
    """Why a text cannot be the value of a label; empty if it can."""
    if not value or (_NAME.fullmatch(value) and len(value) <= _NAME_CHARS):
        return ""
    return f"{value!r} is no value of a label: {_RULE}"


def describe(selector: LabelSelector) -> str:
    """The selector as kubectl writes it: `a=b,c in (d,e),!f`; `everything` when empty."""
    parts = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    for rule in selector.match_expressions:
        values = ",".join(rule.values)
        parts.append(
            {
                "In": f"{rule.key} in ({values})",
                "NotIn": f"{rule.key} notin ({values})",
                "Exists": rule.key,
                "DoesNotExist": f"!{rule.key}",
            }.get(rule.operator, f"{rule.key} {rule.operator} ({values})")
        )
    return ",".join(parts) or "everything"
