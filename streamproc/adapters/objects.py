"""Where objects are kept: section `[objects]` of the settings, what a key is, and the store they ask for."""

import re
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from msgspec import Meta

from streamproc.errors import ConfigError
from streamproc.ports import ObjectStore

KEY_BYTES_MAX = 1_024

_FOLDER = re.compile(r"file:(?!//[^/])(?=.*[^/]).+")
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+/?")


class ObjectOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[objects]`. What follows `url` is for S3."""

    url: Annotated[str, Meta(description="file:relative/folder, file:/absolute/folder, or s3://bucket")] = (
        "file:data/objects"
    )
    endpoint: Annotated[str, Meta(description="http(s)://host:port of a server that is not Amazon's")] = ""
    region: Annotated[str, Meta(min_length=1)] = "us-east-1"
    access_key: Annotated[str, Meta(description="empty: what AWS_* variables or the machine's role say")] = ""
    secret_key: Annotated[str, Meta(description="of the access key", extra={"secret": True})] = ""
    secret_file: Annotated[str, Meta(description="file with the secret key, read again every minute")] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=3_600, description="for each request")] = 30.0

    def __post_init__(self) -> None:
        if not (_FOLDER.fullmatch(self.url) or _BUCKET.fullmatch(self.url)):
            raise ValueError("url is none of file:relative/folder, file:/absolute/folder, s3://bucket")
        if self.endpoint and not _ENDPOINT.fullmatch(self.endpoint):
            raise ValueError("endpoint is not http://host:port or https://host:port")
        if self.secret_key and self.secret_file:
            raise ValueError("secret_key and secret_file exclude each other: set one of them")
        if bool(self.access_key) != bool(self.secret_key or self.secret_file):
            raise ValueError("access needs an access_key and a secret_key or secret_file: set both or none")


def check_key(key: str) -> None:
    """Raises ValueError, which does not repeat the key, for what is not a key as the port says."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("a key is not text in UTF-8") from None
    if not 0 < size <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX:,} bytes, not {size:,}")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise ValueError("a key has a segment that is empty, . or ..")
    if "\\" in key or any(unicodedata.category(char) == "Cc" for char in key):
        raise ValueError("a key has a control character or a backslash")


@asynccontextmanager
async def open_objects(options: ObjectOptions) -> AsyncIterator[ObjectStore]:
    """Opens it; a server is first asked when it is used. Raises ConfigError."""
    try:
        from streamproc.adapters.object_store import open_bucket, open_folder
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise ConfigError("objects.url: it needs the extra: pip install 'streamproc[objects]'") from None
    yield open_bucket(options) if options.url.startswith("s3:") else open_folder(options.url)
