"""kill -9 between the upload of a picture and its thumbnail: it is there in the end, whole, and once."""

import random
from io import BytesIO
from signal import SIGXFSZ

import httpx2
import pytest
from PIL import Image

from handlers.filekeys import resized
from handlers.pictures import resize
from handlers.services import open_services
from tests.integration.crashes.app import PUT_BYTES
from tests.integration.crashes.points import IN_THE_PUT, PICTURE
from tests.integration.crashes.run import Open, Place, at_each

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]


def picture() -> bytes:
    """A JPEG of 1000x800, of which little can be compressed."""
    written = BytesIO()
    Image.frombytes("RGB", (1_000, 800), random.Random(1).randbytes(2_400_000)).save(written, "JPEG", quality=90)
    return written.getvalue()


@pytest.fixture(scope="module")
def uploaded() -> bytes:
    """What is uploaded at each point."""
    return picture()


def path_of(place: Place) -> str:
    """Where it goes; the points on servers share a bucket."""
    return f"/files/{place.world.topic}/cat.jpg"


async def test_a_picture_has_one_whole_thumbnail_after_a_kill_at_any_point(opened: Open, uploaded: bytes) -> None:
    thumbnail = resize(uploaded)

    async def tried(place: Place, point: str) -> None:
        async def upload(client: httpx2.AsyncClient) -> httpx2.Response:
            return await client.put(path_of(place), content=uploaded)

        async with place.second(point, upload) as client:
            answer = await client.get(path_of(place))
        assert (answer.status_code, answer.content == thumbnail) == (200, True)
        assert place.count() == 2
        assert (await place.end())["letters"] == []

    await at_each(PICTURE, opened, tried)


async def test_what_a_kill_leaves_of_an_object_that_was_being_written_is_no_object(
    in_a_folder: Open, uploaded: bytes
) -> None:
    thumbnail = resize(uploaded)
    assert len(thumbnail) > PUT_BYTES
    async with in_a_folder(1) as place:
        with place.start(IN_THE_PUT) as service:
            async with place.world.client(await service.listening()) as client:
                assert (await client.put(path_of(place), content=uploaded)).status_code == 201
            assert await service.exit_code() == -SIGXFSZ
        files = [file for file in (place.world.folder / "objects").rglob("*") if file.is_file()]
        assert sorted(file.stat().st_size for file in files) == [PUT_BYTES, len(uploaded)]
        async with open_services(place.world.loaded) as services:
            assert await services.objects.get(resized(f"{place.world.topic}/cat.jpg"), bytes_max=PUT_BYTES) is None
        with place.start("") as service:
            async with place.world.client(await service.listening()) as client:
                await place.settled()
                assert (await client.get(path_of(place))).content == thumbnail
                assert (await client.get(f"{path_of(place)}%231")).status_code == 404
            assert await service.stop() == 0
