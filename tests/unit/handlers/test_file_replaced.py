"""Uploads that are replaced: what is shown in the end was made of the last one."""

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from handlers.filekeys import FILE_BYTES_MAX
from handlers.pictures import resize
from handlers.services import Services
from tests.unit.handlers.test_file_uploaded import (
    InThreads,
    around,
    letters,
    picture,
    play,
    resized,
    store,
    told,
    upload,
)

__all__ = ["around", "store"]


async def test_what_replaces_an_object_before_it_is_read_is_made(services: Services, around: Services) -> None:
    await upload(services, "a", b"no picture")
    event = told("uploads/a")
    await upload(services, "a", picture())
    assert (await play(around, event, event)).count("ok") == 2
    assert await resized(services, "a") == resize(picture())


async def test_what_replaces_an_object_while_it_is_resized_is_made_in_the_end(
    services: Services, around: Services, store: InThreads
) -> None:
    other = BytesIO()
    Image.new("RGB", (300, 200), (1, 2, 3)).save(other, "PNG")
    await upload(services, "a", picture())

    theirs: list[bytes] = [other.getvalue()]

    class Late(InThreads):
        async def put(self, key: str, data: bytes, *, content_type: str) -> None:
            while theirs:  # another process has the next upload, and is faster
                upload = theirs.pop()
                await super().put("uploads/a", upload, content_type=content_type)
                await super().put("resized/a", resize(upload), content_type=content_type)
            await super().put(key, data, content_type=content_type)

    late = Late(store.store, [], [])
    assert (await play(replace(around, objects=late), told("uploads/a"))).count("ok") == 1
    assert await resized(services, "a") == resize(other.getvalue())


@pytest.mark.parametrize("data", [b"no picture", bytes(FILE_BYTES_MAX + 1), None], ids=["bad", "large", "gone"])
async def test_what_replaces_a_picture_and_is_none_leaves_none(
    services: Services, around: Services, data: bytes | None
) -> None:
    await upload(services, "a", picture())
    await play(around, told("uploads/a"))
    if data is None:
        await services.objects.delete("uploads/a")
    else:
        await upload(services, "a", data)
    assert len(letters(await play(around, told("uploads/a")))) == 1
    assert await resized(services, "a") is None
