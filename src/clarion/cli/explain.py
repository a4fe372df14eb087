"""`clarion explain`: why a service, address, peer, node or pool is as it is, and what to change."""

from typing import Any

import click

from clarion.cli.render import print_json, print_tree
from clarion.cli.sources import load
from clarion.decide.document import DOCUMENT_VERSION, document
from clarion.decide.explain import QUESTIONS, explain
from clarion.decide.planner import plan
from clarion.decide.snapshot import Options


@click.command(context_settings={"max_content_width": 110})
@click.argument("kind", type=click.Choice(list(QUESTIONS)))
@click.argument("name")
@click.option("-f", "files", multiple=True, metavar="PATH", help="File, directory, or - (stdin).")
@click.option("--kubeconfig", default="", help="Live API to read when no file is given.")
@click.option("--namespace", default="", help="Where configuration objects live.")
@click.option("--lb-class", default="", help="Handle services of this loadBalancerClass.")
@click.option(
    "--bgp",
    "backend",
    type=click.Choice(["native", "frr", "frr-k8s"]),
    default="native",
    show_default=True,
)
@click.option("-o", "--output", type=click.Choice(["tree", "json"]), default="tree")
def command(
    kind: str,
    name: str,
    files: tuple[str, ...],
    kubeconfig: str,
    namespace: str,
    lb_class: str,
    backend: Any,
    output: str,
) -> int:
    """Say why: service NS/NAME, address IP, peer NAME, node NAME, or pool NAME.

    Exits with 1 if what is asked about does not exist.
    """
    options = Options(namespace=namespace, lb_class=lb_class, backend=backend)
    tree = explain(plan(load(files, kubeconfig or None, options).snapshot), kind, name)
    if output == "json":
        tree_document = document(tree)
        print_json({"version": DOCUMENT_VERSION, "kind": "Explanation", "answer": tree_document})
    else:
        print_tree(tree)
    return 1 if any(child.code == "not-found" for child in tree.children) else 0
