"""`validate`, `plan` and `explain` as a user runs them: output of a pipe, exit codes, start-up."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from clarion.cli.explain import command as explain
from clarion.cli.plan import command as plan
from clarion.cli.validate import command as validate

ROOT = Path(__file__).resolve().parents[2]
ADVANCED = str(ROOT / "examples" / "02-advanced-bgp")
NODES = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: node-a}}
- {apiVersion: v1, kind: Node, metadata: {name: node-b}}
"""
POOL = """
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: metallb-system}}
spec:
  addresses:
    - {addresses}
"""


def run(command: click.Command, *arguments: str, stdin: str | None = None) -> Result:
    # The group turns a command's value into the exit code; here the value is looked at.
    result = CliRunner().invoke(command, arguments, input=stdin, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_validate_finds_nothing_in_the_examples() -> None:
    for folder in sorted((ROOT / "examples").glob("0*")):
        result = run(validate, "-f", str(folder))
        assert result.return_value == 0, result.output


BAD = {
    "alias-unknown.yaml": "alias-unknown",
    "annotation-misspelt.yaml": "annotation-unknown",
    "peer-inside-pool.yaml": "peer-inside-pool",
    "pool-misspelt.yaml": "pool-unknown",
    "pools-overlap.yaml": "pool-overlap",
    "prefix-too-long.yaml": "address-invalid",
    "selector-invalid.yaml": "selector-invalid",
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_each_mistake_is_one_clear_problem(name: str) -> None:
    path = ROOT / "examples" / "bad" / name
    result = run(validate, "-f", str(path), "-o", "json")
    found = json.loads(result.output)["problems"]
    wanted = [item for item in found if item["code"] == BAD[name]]
    assert len(wanted) == 1
    (item,) = wanted
    line = path.read_text().splitlines()[item["line"] - 1]
    assert item["file"] == str(path)
    assert item["column"] > 0
    assert line.strip()
    assert item["remedy"]
    others = [item for item in found if item["code"] != BAD[name]]
    assert {item["code"] for item in others} <= {
        "pool-not-advertised",
        "advertisement-without-peer",
    }
    assert result.return_value == int(item["severity"] == "error")


def test_validate_prints_place_object_field_and_remedy(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(POOL.format(name="p", addresses="192.0.2.0/33"))
    text = run(validate, "-f", str(file)).output
    assert f"{file}:7:7: error [address-invalid]" in text
    assert "IPAddressPool metallb-system/p: spec.addresses[0]: /33 is not a prefix" in text
    assert "→ write a prefix" in text


def test_validate_reads_standard_input_and_directories(tmp_path: Path) -> None:
    assert run(validate, "-f", "-", stdin=NODES).output == "2 objects, no problem\n"
    for number in range(200):
        text = POOL.format(name=f"p{number}", addresses="nonsense")
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "notes.txt").write_text("not read")
    result = run(validate, "-f", str(tmp_path), "-o", "json")
    found = json.loads(result.output)["problems"]
    assert [item["code"] for item in found] == ["address-invalid"] * 200
    assert result.return_value == 1


def test_a_file_that_cannot_be_read_hides_no_other_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [\n")
    (tmp_path / "b.yaml").write_text(POOL.format(name="p", addresses="nonsense"))
    found = json.loads(run(validate, "-f", str(tmp_path), "-o", "json").output)["problems"]
    assert [Path(item["file"]).name for item in found] == ["a.yaml", "b.yaml"]


def test_what_follows_from_an_unreadable_object_is_not_reported(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n"
        "metadata: {name: p, namespace: metallb-system}\nspec: {addresses: 192.0.2.0/28}\n"
    )
    (tmp_path / "b.yaml").write_text(
        "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n"
        "metadata: {name: l2, namespace: metallb-system}\nspec: {ipAddressPools: [p]}\n"
    )
    found = json.loads(run(validate, "-f", str(tmp_path), "-o", "json").output)["problems"]
    assert [Path(item["file"]).name for item in found] == ["a.yaml"]


def test_plan_as_a_table_in_a_pipe() -> None:
    result = run(plan, "-f", ADVANCED, "-f", "-", stdin=NODES)
    assert result.return_value == 0
    assert "203.0.113.203, fc00:f853:ccd:e799::3" in result.output
    assert "\x1b" not in result.output
    assert result.output.count("203.0.113.200/30") == 4, "one row per peer, whatever the nodes"


def test_plan_as_json_and_yaml_agree() -> None:
    from clarion.model.manifests import documents

    value = json.loads(run(plan, "-f", ADVANCED, "-f", "-", "-o", "json", stdin=NODES).output)
    text = run(plan, "-f", ADVANCED, "-f", "-", "-o", "yaml", stdin=NODES).output
    (document,) = documents("plan.yaml", text)
    assert document.object == value
    assert value["nodes"]["node-a"]["peers"]["frr"]["routes"][0]["route"] == {
        "prefix": "203.0.113.200/30",
        "local_pref": 0,
        "communities": ["8000:800"],
        "large_communities": [],
        "extended_communities": [],
        "weight": 0,
    }


def test_plan_of_broken_manifests_shows_the_rest_and_fails(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POOL.format(name="good", addresses="192.0.2.0/28"))
    (tmp_path / "b.yaml").write_text(POOL.format(name="bad", addresses="nonsense"))
    result = run(plan, "-f", str(tmp_path))
    assert result.return_value == 1
    assert "good" in result.stdout
    assert "error [address-invalid]" in result.stderr


def test_explain_as_tree_and_json() -> None:
    text = run(explain, "service", "web-1", "-f", ADVANCED, "-f", "-", stdin=NODES)
    assert text.return_value == 0
    assert text.output.startswith("✓ service default/web-1\n")
    assert "✗ no L2Advertisement selects pool zone-east" in text.output
    value = json.loads(run(explain, "pool", "zone-east", "-f", ADVANCED, "-o", "json").output)
    assert value["answer"]["status"] == "yes"
    missing = run(explain, "pool", "zone-west", "-f", ADVANCED)
    assert missing.return_value == 1
    assert "did you mean zone-east?" in missing.output


def test_what_cannot_be_read_is_said_beside_every_answer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POOL.format(name="good", addresses="192.0.2.0/28"))
    (tmp_path / "b.yaml").write_text("apiVersion: metallb.io/v1beta1\nkind: IPAddressPol\n")
    asked = run(explain, "pool", "good", "-f", str(tmp_path), "-o", "json")
    assert asked.return_value == 0
    assert json.loads(asked.stdout)["name"] == "good"
    compared = run(plan, "-f", str(tmp_path / "a.yaml"), "--against", str(tmp_path))
    assert compared.return_value == 0, "what is wrong with the base fails nobody"
    for result in (asked, compared):
        assert "b.yaml:2:7: error [UnknownKind]" in result.stderr


def test_commands_import_nothing_heavy() -> None:
    """Start-up has a budget of 250 ms, so what costs tens of milliseconds stays out."""
    code = (
        "import sys\n"
        "from clarion.cli.validate import command\n"
        "from clarion.cli import plan, explain\n"
        f"command(['-f', {ADVANCED!r}], standalone_mode=False)\n"
        "heavy = {'asyncio', 'aiohttp', 'rich', 'pyroute2', 'cryptography', 'jsonschema_rs'}\n"
        "sys.exit(f'{heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
