"""Pictures that come to the application: uploaded over its API, or put beside it and told of by the object store."""

import io
import json
import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from PIL import Image

from streamproc import S3Event

UPLOADS, NOTIFIED = 30, 10
BROKEN_EVERY = 10
"""Each so many-th upload is no picture; one of the objects told of is gone."""
SIZE = (1_200, 900)
TOPIC = "files"


def key(number: int) -> str:
    """An upload's key."""
    return f"visitors/{number}.jpg"


def picture(number: int) -> bytes:
    """A JPEG, or something that is none."""
    if number % BROKEN_EVERY == BROKEN_EVERY - 1:
        return b"no picture at all"
    draw = random.Random(number)
    colour = (draw.randrange(256), draw.randrange(256), draw.randrange(256))
    image = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    image.paste(colour, (100, 100, 500, 400))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=90)
    return written.getvalue()


async def put_and_tell(bootstrap: str, topic: str, objects: Path) -> None:
    """Puts objects into the store's folder and tells of them as MinIO does; the last one is gone again."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for number in range(NOTIFIED):
            name = f"uploads/direct/{number}.jpg"
            if number < NOTIFIED - 1:
                file = objects / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(picture(number * BROKEN_EVERY))
            await producer.send_and_wait(topic, _told(name), key=f"shop/{name}".encode())
    finally:
        await producer.stop()


def _told(name: str) -> bytes:
    entity = {"bucket": {"name": "shop"}, "object": {"key": name.replace("/", "%2F"), "size": 1, "sequencer": "1"}}
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventTime": datetime.now(UTC).isoformat(),
        "eventName": "s3:ObjectCreated:Put",
        "s3": entity,
    }
    return json.dumps({"EventName": record["eventName"], "Key": f"shop/{name}", "Records": [record]}).encode()


def account(objects: Path, letters: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The thumbnails that are there, and the dead letters, against what was sent; `letters` are S3 events."""
    sent = {key(number): number % BROKEN_EVERY != BROKEN_EVERY - 1 for number in range(UPLOADS)}
    sent |= {f"direct/{number}.jpg": number < NOTIFIED - 1 for number in range(NOTIFIED)}
    good = {name for name, is_good in sent.items() if is_good}
    made = {str(file.relative_to(objects / "resized")) for file in (objects / "resized").rglob("*.jpg")}
    dead = {name.removeprefix("uploads/") for letter in letters for name in _keys(letter)} & sent.keys()
    counts = {"uploaded": UPLOADS, "notified": NOTIFIED, "thumbnails": len(made), "dead_letters": len(dead)}
    holds = made == good and dead == sent.keys() - good
    return {**counts, "balanced": holds and all(_fits(objects / "resized" / name) for name in made)}


def _keys(letter: Mapping[str, Any]) -> list[str]:
    """The keys of the objects that a dead letter tells of; none where it is no event of objects."""
    try:
        return [record.key for record in msgspec.convert({"type": "s3.event", **letter}, S3Event).records]
    except msgspec.ValidationError:
        return []


def _fits(file: Path) -> bool:
    with Image.open(file) as image:
        image.load()
        return image.format == "JPEG" and image.size == (800, 600)
