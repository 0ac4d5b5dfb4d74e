"""Secrets that are kept in files, so that they can be changed while the program runs."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from streamproc.errors import ConfigError

_PASSWORDS = frozenset({"password", "sslpassword"})


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


def holds_password(url: str) -> bool:
    """Whether a password stands in an address, where everybody who sees the settings could read it."""
    try:
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return bool(login.partition(":")[2]) or not parse_qs(parts.query).keys().isdisjoint(_PASSWORDS)
    except ValueError:
        return "@" in url
