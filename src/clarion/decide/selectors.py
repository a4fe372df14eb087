"""Label selectors: does it match, is it well formed (Kubernetes `metav1.LabelSelector`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from clarion.model.meta import LabelSelector, LabelSelectorRequirement

Labels = Mapping[str, str]

# Operator -> what its expression demands of the labels. An absent key satisfies NotIn.
_OPERATORS: dict[str, Callable[[LabelSelectorRequirement, Labels], bool]] = {
    "In": lambda rule, labels: rule.key in labels and labels[rule.key] in rule.values,
    "NotIn": lambda rule, labels: rule.key not in labels or labels[rule.key] not in rule.values,
    "Exists": lambda rule, labels: rule.key in labels,
    "DoesNotExist": lambda rule, labels: rule.key not in labels,
}
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


def faults(selector: LabelSelector) -> Iterator[str]:
    """What makes a selector unusable, in words."""
    seen: list[LabelSelectorRequirement] = []
    for rule in selector.match_expressions:
        if not rule.key:
            yield "an expression has no key"
        if rule.operator not in _OPERATORS:
            known = ", ".join(_OPERATORS)
            yield f"operator {rule.operator!r} of key {rule.key!r} is not one of {known}"
        elif _TAKES_VALUES[rule.operator] and not rule.values:
            yield f"{rule.operator} of key {rule.key!r} needs at least one value"
        elif not _TAKES_VALUES[rule.operator] and rule.values:
            yield f"{rule.operator} of key {rule.key!r} takes no values"
        if len(set(rule.values)) < len(rule.values):
            yield f"the values of key {rule.key!r} repeat one another"
        if rule in seen:
            yield f"the expression on key {rule.key!r} stands twice"
        seen.append(rule)


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
