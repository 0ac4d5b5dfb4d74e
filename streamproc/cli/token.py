"""`token`: a token for calling the HTTP functions of a development machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from streamproc.cli.common import Source, settings_options
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc.http.options import AuthOptions


@click.command()
@click.option("--subject", required=True, metavar="ID", help="Who calls: the claim sub.")
@click.option("scopes", "--scope", multiple=True, metavar="SCOPE", help="What the caller may do; may be repeated.")
@click.option("lifetime_s", "--lifetime", type=int, default=3_600, show_default=True, help="Seconds it is valid.")
@settings_options
def token(*, subject: str, scopes: Sequence[str], lifetime_s: int, source: Source) -> None:
    """Print a token that the HTTP functions take, for development.

    It is signed with the secret in auth.secret_file, and only where auth.development is true.

    \b
    Example:
      openssl rand -hex 32 > secret.txt
      streamproc token --subject u-1 --scope users:read --scope users:write \\
        --set auth.development=true --set auth.secret_file=secret.txt
    """
    import time

    from streamproc.http.auth import sign

    auth = source.load().settings.auth
    _check(auth)
    click.echo(sign(auth, subject=subject, scopes=scopes, lifetime_s=lifetime_s, now=time.time()))


def _check(auth: "AuthOptions") -> None:
    from pathlib import Path

    if not auth.development:
        raise ConfigError(
            "auth.development: is false, so no token is signed. On a development machine set it to true, and"
            " auth.secret_file to a file made with: openssl rand -hex 32 > FILE"
        )
    if not Path(auth.secret_file).exists():
        raise ConfigError(f"auth.secret_file: there is no {auth.secret_file!r}; make it: openssl rand -hex 32 > FILE")
