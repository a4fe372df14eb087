"""`clarion apiserver`."""

from pathlib import Path
from typing import Any

import click

from clarion.cli.options import API_LISTEN, LOG_LEVELS, Duration, listen_option


@click.command()
@click.option(
    "--data-dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is stored.",
)
@listen_option("--listen", API_LISTEN, "Beyond loopback: TLS and a token. Port 0: a free one.")
@click.option(
    "--write-kubeconfig",
    default="",
    metavar="FILE",
    help="Written (readable by you alone) when the API takes requests.",
)
@click.option(
    "--service-network",
    default="10.96.0.0/16,fd00:10:96::/112",
    show_default=True,
    help="Ranges for the cluster addresses of services, the preferred family first.",
)
@click.option("--secure", is_flag=True, help="TLS and a token on loopback too.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="Further name or address for the certificate; may be repeated.",
)
@click.option(
    "--compact",
    "compact_seconds",
    type=Duration(),
    default="5m",
    show_default=True,
    help="For how long, at least, a watch can resume.",
)
@click.option(
    "--bookmarks",
    "bookmark_seconds",
    type=Duration(),
    default="30s",
    show_default=True,
    help="How often watchers are told the current version.",
)
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info")
def command(log_level: str, **flags: Any) -> None:
    """Serve a Kubernetes-style API from this machine, without a cluster."""
    from clarion.daemons.apiserver import ApiServerOptions, main
    from clarion.edge.logs import parse_level

    main(ApiServerOptions(log_level=parse_level(log_level), **flags))
