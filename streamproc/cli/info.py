"""`healthcheck` and `version`: about the program."""

import platform

import click

from streamproc.cli.common import Source, settings_options
from streamproc.errors import ConfigError

TIMEOUT_S = 3.0


@click.command()
@click.option("--url", help="What to ask; /livez at the setting ops.listen when not given.")
@settings_options
@click.pass_context
def healthcheck(ctx: click.Context, url: str | None, *, source: Source) -> None:
    """Ask a running program whether it is alive.

    Exit code 0 when it is, 1 when not.

    \b
    Example:
      streamproc healthcheck --url http://127.0.0.1:9464/readyz
    """
    asked = url or _livez(source.load().settings.ops.listen)
    problem = _ask(asked)
    click.echo(problem or "ok", err=bool(problem))
    ctx.exit(1 if problem else 0)


def _livez(listen: str) -> str:
    if not listen:
        raise ConfigError("ops.listen is empty, so nothing answers; give --url")
    host, _, port = listen.rpartition(":")
    local = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{local}:{port}/livez"


def _ask(url: str) -> str:
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    from streamproc.secret import holds_password

    if holds_password(url):
        raise ConfigError("--url must not hold a login: what is asked needs none")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url {url}: it must begin with http:// or https://")
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S):
            return ""
    except HTTPError as error:
        return f"{url}: {error.code} {_reason(error.read(10_000))}".rstrip()
    except (OSError, ValueError) as error:
        return f"{url}: no answer ({getattr(error, 'reason', error)})"


def _reason(body: bytes) -> str:
    import orjson

    try:
        return str(orjson.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return ""


@click.command()
def version() -> None:
    """Show the versions of streamproc, Python and aiokafka.

    \b
    Example:
      streamproc version
    """
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        ours = version_of("streamproc")
    except PackageNotFoundError:
        ours = "(not installed)"
    click.echo(f"streamproc {ours}, Python {platform.python_version()}, aiokafka {version_of('aiokafka')}")
