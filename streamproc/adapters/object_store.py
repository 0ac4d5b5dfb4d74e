"""Objects in a folder or in an S3 bucket, by one client."""

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, S3Store

from streamproc.adapters.objects import ObjectOptions, check_key
from streamproc.errors import ConfigError, ObjectTooLarge, StoreError
from streamproc.secret import read_secret

if TYPE_CHECKING:
    from obstore.store import S3Credential

NAME_BYTES = 240
"""File systems take 255; the client adds a number to the name of a file that is not yet whole."""
HASHED_BYTES = 100
CONNECT_S = 5.0
RETRIES = 1
"""For a kept connection that ended unseen. More is up to callers, who see what goes on."""
BACKOFF_S = 0.05
SECRET_S = 60.0
_RENEWED_S = 300.0
"""The client asks for credentials anew that end sooner."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_OF_A_FOLDER = (str(errno.ENOTDIR), str(errno.EISDIR))
_OWN_ERROR = re.compile(r"ConfigError: (.+)")


class _Missing(StoreError):
    """There is no such object."""


class _Elsewhere(ValueError):
    """In a folder, `a` and `a/b` are not both objects."""


class ObstoreObjects:
    """An ObjectStore over a client of obstore; `open_objects` makes it. `name` is for messages."""

    def __init__(self, client: LocalStore | S3Store, name: str, folder: Path | None = None) -> None:
        self._client = client
        self._name = name
        self._folder = folder

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """See the port. Raises ValueError too for a key that this very store has no place for."""
        path = self._path(key)
        attributes = None if self._folder else {"Content-Type": content_type}
        with self._errors(path):
            await obstore.put_async(self._client, path, data, attributes=attributes, use_multipart=False)

    async def get(self, key: str, *, bytes_max: int) -> bytes | None:
        """See the port."""
        path = self._path(key)
        with suppress(_Missing, _Elsewhere), self._errors(path):
            found = await obstore.get_async(self._client, path)
            size = found.meta["size"]
            if size > bytes_max:
                raise ObjectTooLarge(f"an object of {size:,} bytes, where at most {bytes_max:,} are taken")
            return bytes(await found.bytes_async())  # reads no more than that size, whatever happens meanwhile
        return None

    async def delete(self, key: str) -> None:
        """See the port."""
        path = self._path(key)
        with suppress(_Missing, _Elsewhere), self._errors(path):
            await obstore.delete_async(self._client, path)

    def _path(self, key: str) -> str:
        check_key(key)
        return file_of(key) if self._folder else key

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Raises what callers know for what the client raises, whose texts may hold what must not be told."""
        try:
            yield
        except (BaseError, OSError) as error:
            text = str(error).partition("\n\nDebug source:")[0]
            for before in (f" {path} not found: ", f" for path {path}: "):  # a key may look like an answer
                text = text.split(before, 1)[-1]
            code = _first(_CODE, text)
            if code.startswith("KeyTooLong"):
                raise ValueError(f"{self._name} takes no key as long") from None
            if _first(_OS_ERROR, text) in _OF_A_FOLDER and self._folder is not None and self._folder.is_dir():
                raise _Elsewhere(f"{self._name} has an object where this key has a folder, or the other way") from None
            if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
                raise _Missing(f"{self._name}: there is no such object") from None
            raise StoreError(f"{self._name}: {_said(error, text)}") from None


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _said(error: Exception, text: str) -> str:
    """What happened, in words that hold nothing of the object and no secret."""
    if own := _first(_OWN_ERROR, text):
        return own
    if number := _first(_OS_ERROR, text):
        return os.strerror(int(number))
    answer = " ".join(filter(None, (_first(_STATUS, text), _first(_CODE, text))))
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return f"access is refused: {answer}"
    return answer or ("no answer" if "HTTP error" in text else type(error).__name__)


def file_of(key: str) -> str:
    """The path below the folder: the key as it stands, but for what the client or file systems have no room for.

    No two keys have the same: of a segment that is too long, the beginning is kept and a hash of all of it.
    """
    return "/".join(map(_name, key.split("/")))


def _name(segment: str) -> str:
    name = segment.replace("%", "%25").replace("#", "%23")  # the client takes name#1 for a file that is not yet whole
    if len(name.encode()) <= NAME_BYTES:
        return name
    begin = segment.encode()[:HASHED_BYTES].decode(errors="ignore").replace("%", "_").replace("#", "_")
    return f"{begin}%~{hashlib.sha256(segment.encode()).hexdigest()}"


def open_folder(url: str) -> ObstoreObjects:
    """The folder of a `file:` address, made where it is missing. Raises ConfigError."""
    folder = Path(url.removeprefix("file:"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"objects.url: cannot make the folder {str(folder)!r}: {error.strerror}") from None
    return ObstoreObjects(LocalStore(folder), url, folder)


def open_bucket(options: ObjectOptions) -> ObstoreObjects:
    """The bucket of an `s3://` address, which is not asked yet. Raises ConfigError where the secret cannot be read."""
    backoff = timedelta(seconds=BACKOFF_S)
    client = S3Store(
        options.url.removeprefix("s3://"),
        config={"region": options.region, **({"endpoint": options.endpoint} if options.endpoint else {})},
        client_options={
            "allow_http": options.endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=min(CONNECT_S, options.timeout_s)),
            "timeout": timedelta(seconds=options.timeout_s),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=options.timeout_s),
            "backoff": {"init_backoff": backoff, "max_backoff": backoff, "base": 2},
        },
        credential_provider=_provider(options) if options.access_key else None,
    )
    return ObstoreObjects(client, options.url)


def _provider(options: ObjectOptions) -> "Callable[[], S3Credential]":
    def credentials() -> "S3Credential":
        secret = read_secret(file, "objects.secret_file") if file else options.secret_key
        until = datetime.now(UTC) + timedelta(seconds=SECRET_S + _RENEWED_S) if file else None
        return {"access_key_id": options.access_key, "secret_access_key": secret, "token": None, "expires_at": until}

    file = options.secret_file
    credentials()
    return credentials
