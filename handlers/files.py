"""`/files`: pictures are uploaded, and fetched in the size of a web page."""

from collections.abc import Callable
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta

from handlers.filekeys import FILE_BYTES_MAX, PATTERN, original, resized
from handlers.services import Services
from handlers.stores.processed import Refused
from streamproc import Answer, Content, Created, HttpContext, Problem, S3Event

BUCKET = "files"
"""What events call the place of the objects, wherever they are kept."""

Key = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 1_016, "pattern": PATTERN})]
Data = Annotated[bytes, Meta(min_length=1, description="a file that is not empty")]


class StoredFile(Answer):
    """An upload that is stored; `size` in bytes."""

    key: str
    size: int


async def put_file(key: Key, data: Data, ctx: HttpContext[Services]) -> Created[StoredFile] | Problem:
    """Stores a picture; it is resized soon after."""
    name = _object(original, key)
    if isinstance(name, Problem):
        return name
    try:
        await ctx.services.objects.put(name, data, content_type="application/octet-stream")
    except ValueError as error:
        return Problem(409, f"The store has no place for it: {error}")
    ctx.emit(S3Event.created(BUCKET, name, size=len(data), at=ctx.now), key=name, event_id=ctx.new_id())
    return Created(StoredFile(key=key, size=len(data)), location=f"/files/{quote(key)}")


async def get_file(key: Key, ctx: HttpContext[Services]) -> Content | Problem:
    """The picture, resized; not found as long as that is still to come, or where it never can."""
    name = _object(resized, key)
    if isinstance(name, Problem):
        return name
    data = await ctx.services.objects.get(name, bytes_max=FILE_BYTES_MAX)
    return Problem(404, "Not found") if data is None else Content(data, "image/jpeg")


def _object(of: Callable[[str], str], key: str) -> str | Problem:
    try:
        return of(key)
    except Refused as refused:
        return Problem(400, "Invalid request", {"key": refused.outcome.detail})
