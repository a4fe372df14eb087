"""`clarion run`: the whole on one machine."""

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clarion.cli.options import (
    API_LISTEN,
    CONTROLLER_HTTP,
    LOG_LEVELS,
    SPEAKER_HTTP,
    graceful_shutdown_option,
    listen_option,
)
from clarion.model.meta import METALLB_NAMESPACE

if TYPE_CHECKING:
    from clarion.model.manifests import ManifestProblem


def _checked(
    context: click.Context, parameter: click.Parameter, flags: tuple[str, ...]
) -> tuple[str, ...]:
    """The flags, unless this program must know of one: where the speaker listens, how it stops."""
    for flag, instead in (
        ("--listen-http", "--speaker-http"),
        ("--bgp-graceful-shutdown", "--bgp-graceful-shutdown of this command"),
    ):
        if any(given.startswith(flag) for given in flags):
            raise click.BadParameter(f"give {instead} instead", context, parameter)
    return flags


@click.command()
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Everything that must survive a restart, and the kubeconfig.",
)
@click.option(
    "--manifests",
    multiple=True,
    metavar="PATH",
    help="File or folder applied at the start; may be repeated.",
)
@click.option("--node-name", default=socket.gethostname, help="Default: the host's name.")
@listen_option("--listen", API_LISTEN, "The embedded API.")
@listen_option(
    "--speaker-http", SPEAKER_HTTP, "The speaker's health, metrics and debug; empty for none."
)
@listen_option("--controller-http", CONTROLLER_HTTP, "The controller's; empty for none.")
@graceful_shutdown_option("Shed the traffic of routes so long before a stop (RFC 8326).")
@click.option("--namespace", default=METALLB_NAMESPACE, show_default=True)
@click.option("--lb-class", default="", help="Handle this loadBalancerClass only.")
@click.option(
    "--speaker-flag",
    "speaker_flags",
    multiple=True,
    callback=_checked,
    help="Passed on to the speaker.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info")
def command(manifests: tuple[str, ...], log_level: str, **flags: Any) -> None:
    """Announce from this machine without a cluster: embedded API, controller and speaker.

    kubectl --kubeconfig DATA_DIR/kubeconfig works against it.
    """
    from clarion.cli.sources import read_texts
    from clarion.cli.validate import as_finding, finding_lines
    from clarion.daemons.standalone import StandaloneOptions, run_standalone
    from clarion.edge.logs import parse_level
    from clarion.model.codec import load_manifests
    from clarion.model.manifests import documents

    problems: list[ManifestProblem] = []
    texts = tuple(read_texts(manifests, problems.append))
    problems += load_manifests(texts).problems
    for problem in problems:
        for line in finding_lines(as_finding(problem)):
            click.echo(line, err=True)
    options = StandaloneOptions(
        manifests=tuple(found for name, text in texts for found in documents(name, text)),
        problems=tuple(problems),
        log_level=parse_level(log_level),
        **flags,
    )
    asyncio.run(run_standalone(options))
