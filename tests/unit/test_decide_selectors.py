"""What makes a label selector unusable, and where in it that is."""

import pytest

from clarion.decide.selectors import faults
from clarion.model.meta import LabelSelector, LabelSelectorRequirement

LONG = "x" * 64
Rule = tuple[str, str, tuple[str, ...]]

# One expression: key, operator, values -> where the fault is, below the expression, and its words.
EXPRESSIONS: list[tuple[Rule, str, str]] = [
    (("", "Exists", ()), ".key", "no key"),
    (("a b", "Exists", ()), ".key", "no key of a label"),
    (("-a", "Exists", ()), ".key", "the first and the last are letters or digits"),
    ((LONG, "Exists", ()), ".key", "up to 63"),
    (("Example.org/a", "Exists", ()), ".key", "no lower-case domain name"),
    (("/a", "Exists", ()), ".key", "no lower-case domain name"),
    (("a/b/c", "Exists", ()), ".key", "no lower-case domain name"),
    (("a", "Near", ()), ".operator", "is not one of In, NotIn, Exists, DoesNotExist"),
    (("a", "in", ("b",)), ".operator", "is not one of"),
    (("a", "In", ()), ".values", "at least one value"),
    (("a", "NotIn", ()), ".values", "at least one value"),
    (("a", "Exists", ("x",)), ".values", "takes no values"),
    (("a", "DoesNotExist", ("x",)), ".values", "takes no values"),
    (("a", "In", ("x", "y", "x")), ".values[2]", "stands twice"),
    (("a", "In", ("x", "y z")), ".values[1]", "no value of a label"),
    (("a", "In", (LONG,)), ".values[0]", "up to 63"),
]


@pytest.mark.parametrize(("rule", "path", "words"), EXPRESSIONS)
def test_an_expression_that_kubernetes_refuses(rule: Rule, path: str, words: str) -> None:
    key, operator, values = rule
    sound = LabelSelectorRequirement(key="zone", operator="Exists")
    bad = LabelSelectorRequirement(key=key, operator=operator, values=values)
    (fault,) = faults(LabelSelector(match_expressions=(sound, bad)))
    assert fault.path == f".matchExpressions[1]{path}"
    assert words in fault.text


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        ({"zone": "east", "a b": "x"}, ".matchLabels[a b]"),
        ({"example.org/a": "x y"}, ".matchLabels[example.org/a]"),
        ({"": "x"}, ".matchLabels[]"),
    ],
)
def test_a_label_that_kubernetes_refuses(labels: dict[str, str], path: str) -> None:
    (fault,) = faults(LabelSelector(match_labels=labels))
    assert fault.path == path


def test_an_expression_that_stands_twice() -> None:
    rule = LabelSelectorRequirement(key="a", operator="In", values=("b",))
    (fault,) = faults(LabelSelector(match_expressions=(rule, rule)))
    assert fault == (".matchExpressions[1]", "the expression on key 'a' stands twice")


def test_what_kubernetes_accepts() -> None:
    rules = (
        LabelSelectorRequirement(key="node.example.org/Zone_1.a", operator="In", values=("", "B")),
        LabelSelectorRequirement(key="x" * 63, operator="DoesNotExist"),
    )
    labels = {"a.b/c": "", "kubernetes.io/hostname": "node-1.example.org"}
    assert not list(faults(LabelSelector(match_labels=labels, match_expressions=rules)))
