"""`clarion crds`: the CustomResourceDefinitions as YAML."""

import click

from clarion.model.codec import dump_yaml
from clarion.model.schema import custom_resource_definitions


@click.command("crds")
def command() -> None:
    """Print the CustomResourceDefinitions of all metallb.io kinds as YAML."""
    click.echo(dump_yaml(custom_resource_definitions()), nl=False)
