"""From what a function returned to an answer's status, headers and bytes. Pure."""

import gzip
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streamproc.errors import HandlerError
from streamproc.http.answer import Accepted, Content, Created, NoContent, Problem

GZIP_BYTES_MIN = 1_400
"""What is smaller fits into one packet anyway."""
GZIP_LEVEL = 4
JSON: Mapping[str, str] = {"content-type": "application/json"}

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = re.compile(_NAME)
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}( *;[ -~]*)?")
_encode = msgspec.json.Encoder().encode


class Rendered(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render(returned: object) -> Rendered:
    """The answer to what a function returned. Raises HandlerError for what cannot be one."""
    status, headers, value = 200, JSON, returned
    match returned:
        case None | NoContent():
            return Rendered(204, {}, b"")
        case Created():
            status, headers, value = 201, {**JSON, "location": _checked(returned.location)}, returned.value
        case Accepted():
            status, value = 202, returned.value
        case Content():
            return _content(returned)
        case Problem():
            return problem(returned)
    try:
        return Rendered(status, headers, _encode(value))
    except (TypeError, ValueError) as error:
        raise HandlerError(f"it returned {type(value).__name__}, which cannot be written as JSON: {error}") from None


def _content(found: Content) -> Rendered:
    if not isinstance(found.data, bytes):
        raise HandlerError(f"it returned Content of {type(found.data).__name__}, which is not bytes")
    if not _MEDIA_TYPE.fullmatch(found.media_type):
        raise HandlerError(f"it returned Content of a media type that is none: {found.media_type[:100]!r}")
    return Rendered(200, {"content-type": found.media_type, "x-content-type-options": "nosniff"}, found.data)


def problem(found: Problem) -> Rendered:
    """The answer of an error. Raises HandlerError for what cannot be one."""
    if not 400 <= found.status <= 599:
        raise HandlerError(f"it returned a Problem with the status {found.status}, which is none of an error")
    headers = {_checked_name(name): _checked(value) for name, value in found.headers.items()}
    return Rendered(found.status, {**JSON, **headers}, _encode(found.to_json()))


def _checked_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise HandlerError(f"a header of the answer has a name it must not: {name[:100]!r}")
    return name.lower()


def _checked(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise HandlerError(f"a header of the answer holds characters it must not: {value[:100]!r}")
    return value


def compressed(answer: Rendered, accept_encoding: str) -> Rendered:
    """The answer with gzip, where it is large enough and the caller takes it. Pictures are compressed already."""
    is_picture = answer.headers.get("content-type", "").lower().startswith("image/")
    if len(answer.body) < GZIP_BYTES_MIN or is_picture:
        return answer
    headers = {**answer.headers, "vary": ", ".join(filter(None, (answer.headers.get("vary"), "Accept-Encoding")))}
    if not _takes_gzip(accept_encoding):
        return Rendered(answer.status, headers, answer.body)
    body = gzip.compress(answer.body, GZIP_LEVEL, mtime=0)
    return Rendered(answer.status, {**headers, "content-encoding": "gzip"}, body)


def _takes_gzip(accept_encoding: str) -> bool:
    weights: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";q=")
        weights[coding] = weight == "" or weight.strip("0.") != ""
    return weights.get("gzip", weights.get("*", False))
