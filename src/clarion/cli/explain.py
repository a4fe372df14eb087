"""`clarion explain`: why a service, address, peer, node or pool is as it is, and what to change."""

import click

from clarion.cli.render import collector_at_rest, print_json, print_tree
from clarion.cli.sources import Question, Wanted, load, source_options, tell_unreadable
from clarion.decide.document import EXPLAIN_SCHEMA, document
from clarion.decide.explain import QUESTIONS, explain
from clarion.decide.narrow import plan_for
from clarion.decide.reasontree import Focus

NOWHERE = ("not-found", "address-in-no-pool")
"""Codes of an answer about what does not exist."""


@click.command(context_settings={"max_content_width": 110})
@click.argument("kind", type=click.Choice(list(QUESTIONS)))
@click.argument("name")
@source_options
@click.option("--node", default="", help="Only as far as this node is concerned.")
@click.option("--peer", default="", help="Only as far as this peer is concerned.")
@click.option("--interface", default="", help="Whether the address is answered for on it.")
@click.option("-o", "--output", type=click.Choice(["tree", "json"]), default="tree")
def command(
    wanted: Wanted, kind: str, name: str, node: str, peer: str, interface: str, output: str
) -> int:
    """Say why: service NS/NAME, address IP, peer NAME, node NAME, or pool NAME.

    Exits with 1 if what is asked about does not exist, or the address is in no pool.
    """
    focus = Focus(node=node, peer=peer, interface=interface)
    with collector_at_rest():
        loaded = load(wanted, Question(kind, name))
        tree = explain(plan_for(loaded.snapshot, kind, name), kind, name, focus)
    tell_unreadable(loaded)
    if output == "json":
        print_json({"schema": EXPLAIN_SCHEMA, "kind": kind, "name": name, "answer": document(tree)})
    else:
        print_tree(tree)
    return int(any(child.code in NOWHERE for child in tree.children))
