"""`openapi`: what the HTTP functions take and give, for other programs."""

import click

from streamproc.cli.common import Target, app_options, print_json


@click.command()
@app_options(as_option=True)
def openapi(*, target: Target) -> None:
    """Print the OpenAPI 3.1 document of the HTTP functions.

    A running service answers it at /openapi.json, to callers with a token.

    \b
    Example:
      streamproc openapi > openapi.json
    """
    from streamproc.http.openapi import document

    print_json(document(target.load(), title=target.name, version="1"))
