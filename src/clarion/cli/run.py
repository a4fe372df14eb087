"""`clarion run`: the whole on one machine."""

import asyncio
import socket
from pathlib import Path

import click

from clarion.cli.options import LOG_LEVELS


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
@click.option("--listen", default="127.0.0.1:6480", show_default=True, metavar="HOST:PORT")
@click.option("--namespace", default="metallb-system", show_default=True)
@click.option("--lb-class", default="", help="Handle this loadBalancerClass only.")
@click.option("--speaker-flag", "speaker_flags", multiple=True, help="Passed on to the speaker.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info")
def command(
    data_dir: Path,
    manifests: tuple[str, ...],
    node_name: str,
    listen: str,
    namespace: str,
    lb_class: str,
    speaker_flags: tuple[str, ...],
    log_level: str,
) -> None:
    """Announce from this machine without a cluster: embedded API, controller and speaker.

    kubectl --kubeconfig DATA_DIR/kubeconfig works against it.
    """
    from clarion.cli.sources import read_texts
    from clarion.daemons.standalone import StandaloneOptions, run_standalone
    from clarion.edge.logs import parse_level
    from clarion.model.codec import load_manifests
    from clarion.model.manifests import documents

    texts = tuple(read_texts(manifests))
    for problem in load_manifests(texts).problems:
        click.echo(str(problem), err=True)
    options = StandaloneOptions(
        data_dir=data_dir,
        manifests=tuple(found.object for name, text in texts for found in documents(name, text)),
        node_name=node_name,
        listen=listen,
        namespace=namespace,
        lb_class=lb_class,
        speaker_flags=speaker_flags,
        log_level=parse_level(log_level),
    )
    asyncio.run(run_standalone(options))
