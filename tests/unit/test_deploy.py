"""What is shipped for clusters, as far as it can be judged without one."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from clarion import __version__
from clarion.cli.main import cli
from clarion.edge import metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "clarion"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def documents(path: Path) -> list[Any]:
    return [item for item in yaml.load_all(path.read_text(), yaml.CSafeLoader) if item]


def manifests() -> list[Any]:
    return [
        item
        for path in sorted((DEPLOY / "kustomize").rglob("*.yaml"))
        if path.name != "kustomization.yaml"
        for item in documents(path)
    ]


def test_everything_shipped_is_of_one_version() -> None:
    chart = documents(CHART / "Chart.yaml")[0]
    base = documents(DEPLOY / "kustomize" / "base" / "kustomization.yaml")[0]
    assert chart["version"] == chart["appVersion"] == __version__
    assert [image["newTag"] for image in base["images"]] == [__version__]


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_arguments_are_known_to_the_program(kind: str) -> None:
    workload = next(item for item in manifests() if item["kind"] == kind)
    name, *words = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    values = command.make_context(name, words).params
    assert values["namespace"] == "$(NAMESPACE)"


def test_the_charts_arguments_are_known_to_the_program() -> None:
    for name in ("controller", "speaker"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        known = {flag for option in command.params for flag in option.opts}
        text = (CHART / "templates" / f"{name}.yaml").read_text()
        used = set(re.findall(r"^ +- (--[a-z0-9-]+)", text, re.MULTILINE))
        assert len(used) > 4
        assert used <= known


def resolved(schema: Any) -> Any:
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def test_the_chart_describes_exactly_the_values_that_it_has() -> None:
    """Each default has its place in the schema; what has none there is refused by helm."""
    faults: list[str] = []

    def walk(values: Any, schema: Any, path: str) -> None:
        schema = resolved(schema)
        known = schema.get("properties")
        if known is None or not isinstance(values, dict):
            return
        if schema["additionalProperties"] is not False:
            faults.append(f"{path}: takes anything")
        faults.extend(f"{path}.{name}: not in the schema" for name in values.keys() - known.keys())
        for name in known.keys() & values.keys():
            walk(values[name], known[name], f"{path}.{name}")
        # What has no default is there to be refused in words, or is helm's own.
        unset = {f"{path}.{name}" for name in known.keys() - values.keys()}
        faults.extend(sorted(unset - {".global", ".frrk8s.enabled", ".speaker.frr"}))

    walk(documents(CHART / "values.yaml")[0], SCHEMA, "")
    assert not faults


def values_in(schema: Any, path: str = "") -> set[str]:
    known = resolved(schema).get("properties")
    if known is None:
        return {path}
    return {
        name for key, item in known.items() for name in values_in(item, f"{path}.{key}".strip("."))
    }


def test_the_migration_table_tells_the_truth_about_each_value() -> None:
    """What is `gone` is no value of ours, what is not is one, and none of ours is left out."""
    page = (ROOT / "docs" / "helm.md").read_text()
    rows = re.findall(r"^\| `([A-Za-z0-9.-]+)` \| (same|differs|gone|new) \|", page, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    ours = values_in(SCHEMA) - {"global"}

    def there(name: str) -> bool:
        return any(value == name or value.startswith(f"{name}.") for value in ours)

    assert not [(name, what) for name, what in rows if there(name) != (what != "gone")]
    named = [name for name, _ in rows]
    untold = [v for v in ours if not any(v == n or v.startswith(f"{n}.") for n in named)]
    assert not sorted(untold)


def test_alerts_are_about_metrics_that_exist() -> None:
    text = (CHART / "templates" / "_prometheus.tpl").read_text()
    used = set(re.findall(r"\b(?:metallb|clarion_bgp)_[a-z0-9_]+", text))
    known = {item.name for item in vars(metrics).values() if isinstance(item, metrics.Family)}
    assert len(used) == 9
    assert used <= known


def test_the_manual_lists_every_metric() -> None:
    page = ROOT / "docs" / "metrics.md"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(metrics.metrics_markdown())
    assert page.read_text() == metrics.metrics_markdown(), "run with UPDATE_GOLDEN=1"


def test_no_role_names_everything() -> None:
    for role in (item for item in manifests() if item["kind"].endswith("Role")):
        for rule in role["rules"]:
            assert "*" not in str(rule), role["metadata"]["name"]


# --- the image ---


def dockerfile() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_the_image_installs_nothing_that_is_not_pinned() -> None:
    steps = dockerfile()
    installs = [
        rest for word, rest in steps if word == "RUN" and "pip" in rest and "venv" not in rest
    ]
    assert len(installs) == 4
    for rest in installs:
        pinned = "install --require-hashes -r" in rest
        ours = "--no-index" in rest or "--no-deps --no-build-isolation" in rest
        assert pinned or ours, rest
    assert not [rest for _, rest in steps if "://" in rest]
    assert {rest.partition(" AS ")[0] for word, rest in steps if word == "FROM"} == {
        "python:3.11-slim"
    }


def test_the_image_runs_as_nobody_and_has_no_tools_to_build() -> None:
    steps = dockerfile()
    last = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    final = steps[last + 1 :]
    assert ("USER", "65534:65534") in final
    assert [word for word, _ in final if word in ("RUN", "ADD")] == []
    assert [rest for word, rest in final if word == "COPY"] == [
        "--from=build /opt/clarion /opt/clarion"
    ]


def test_what_builds_the_image_is_pinned_like_what_builds_here() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    wanted = pins("requirements-build.lock")
    assert any(pin.startswith("hatchling==") for pin in wanted)
    assert wanted <= pins("requirements-dev.lock")
