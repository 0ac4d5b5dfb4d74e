"""Where files are: uploads under one prefix, what is made of them under another, and no key leaves its own. Pure."""

import re

from handlers.stores.processed import Refused

UPLOADS, RESIZED = "uploads/", "resized/"
OBJECT_KEY_BYTES_MAX = 1_024
FILE_BYTES_MAX = 33_554_432
"""Of an upload: what is larger is no picture for a web page, and each is held in memory."""

_CHARACTER, _NO_DOT = r"[^\x00-\x1f\x7f-\x9f\\/]", r"[^\x00-\x1f\x7f-\x9f\\/.]"
_SEGMENT = rf"({_NO_DOT}|\.{_NO_DOT}|\.\.{_CHARACTER}){_CHARACTER}*"
PATTERN = rf"^{_SEGMENT}(/{_SEGMENT})*$(?!\n)"
"""Of a file's key: segments between slashes, none of them empty, `.` or `..`."""
_KEY = re.compile(PATTERN)
RULE = (
    "must be at most 1,016 bytes in segments between slashes, none of them empty, . or .., "
    "without control characters and backslashes"
)


def original(key: str) -> str:
    """The object that was uploaded under a file's key. Raises Refused for a key that could lead anywhere else."""
    return _under(UPLOADS, key)


def resized(key: str) -> str:
    """The picture made of it. Raises Refused, as `original` does."""
    return _under(RESIZED, key)


def _under(prefix: str, key: str) -> str:
    name = prefix + key
    try:
        is_short = len(name.encode()) <= OBJECT_KEY_BYTES_MAX
    except UnicodeEncodeError:  # half of a surrogate pair
        is_short = False
    if not is_short or not _KEY.search(key):
        raise Refused("key", RULE)
    return name
