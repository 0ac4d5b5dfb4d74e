"""Secrets that are kept in files, so that they can be changed while the program runs."""

from pathlib import Path

from streamproc.errors import ConfigError


def read_secret(file: str, setting: str) -> str:
    """What a file holds, without the end of its last line. Raises ConfigError that names the setting, not the secret.

    Read it each time it is used: then a new content counts at once.
    """
    try:
        secret = Path(file).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting}: cannot read {file!r}: {getattr(error, 'strerror', 'not UTF-8 text')}") from None
    if not secret:
        raise ConfigError(f"{setting}: {file!r} is empty")
    return secret
