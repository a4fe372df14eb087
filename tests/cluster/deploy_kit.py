"""What the tests of packaging share: the shipped manifests as objects, and helm."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import yaml

from clarion.testing.apiprocess import Kubectl

ROOT: Final = Path(__file__).resolve().parents[2]
KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
CHART: Final = ROOT / "deploy" / "helm" / "clarion"
SYSTEM: Final = "metallb-system"

Object = dict[str, Any]


def objects(text: str) -> list[Object]:
    """The documents of a YAML text that hold something."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def text_of(items: Iterable[Object]) -> str:
    """Objects as YAML documents."""
    return yaml.dump_all(items, Dumper=yaml.CSafeDumper)


def kustomized(kubectl: Kubectl, overlay: Path) -> list[Object]:
    """What an overlay holds."""
    return objects(kubectl("kustomize", str(overlay)))


def identity(item: Mapping[str, Any]) -> str:
    """`Kind/name`."""
    return f"{item['kind']}/{item['metadata']['name']}"


def by_kind(items: Iterable[Object], kind: str) -> list[Object]:
    """Objects of one kind."""
    return [item for item in items if item["kind"] == kind]


def container_of(workload: Object) -> Object:
    """The container of a Deployment or DaemonSet that is ours."""
    found: Object = workload["spec"]["template"]["spec"]["containers"][0]
    return found


def missing(why: str) -> NoReturn:
    """Skip the test for a reason; in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def frrk8s_definitions() -> list[Path]:
    """The definitions of frr-k8s, in its Go module, which tools/judges fetches."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/metallb/frr-k8s"]
    where = ROOT / "tests" / "judges" / "frrk8s"
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        missing("no Go, which fetches the definitions of frr-k8s")
    if not done.stdout.strip():
        missing("no definitions of frr-k8s: tools/judges fetches them")
    return sorted(Path(done.stdout.strip(), "config", "crd", "bases").glob("*.yaml"))


class Helm:
    """The real helm, with a home of its own."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        path = os.pathsep.join([str(ROOT / ".cache" / "bin"), *os.get_exec_path()])
        found = shutil.which("helm", path=path)
        if found is None:
            missing("no helm: tools/judges builds it (Go)")
        self._program = found
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}),
        }

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever the end is."""
        return subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        """Run it; it must succeed. Gives what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def fails(self, *arguments: str) -> str:
        """Run it; it must fail. Gives what it said."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"helm {' '.join(arguments)} succeeded"
        return done.stderr

    def template(self, *flags: str, release: str = "metallb") -> list[Object]:
        """What a release would be."""
        words = ("template", release, str(CHART), "--namespace", SYSTEM, *flags)
        return objects(self(*words))
