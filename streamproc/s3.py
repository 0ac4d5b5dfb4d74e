"""What S3 and the stores like it tell of objects: the event of the format `s3`."""

from datetime import datetime
from typing import Annotated
from urllib.parse import quote_plus, unquote_plus

import msgspec
from msgspec import Meta

from streamproc.model import Event

RECORDS_MAX = 1_000
_Text = Annotated[str, Meta(max_length=1_024)]
_Key = Annotated[str, Meta(min_length=1, max_length=3_072)]
"""1,024 bytes, each of which may be written as three."""
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class S3Bucket(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Where an object is."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]


class S3Object(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An object; its key is URL-encoded, its size in bytes. None is what was not told."""

    key: _Key
    size: _Size | None = None
    e_tag: _Text | None = None
    version_id: _Text | None = None
    sequencer: _Text | None = None


class S3Entity(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """An object in its bucket."""

    bucket: S3Bucket
    object: S3Object


class S3Record(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """What happened to an object, as in `ObjectCreated:Put` or `s3:ObjectRemoved:Delete`."""

    event_name: Annotated[str, Meta(min_length=1, max_length=100)]
    event_time: Annotated[datetime, Meta(tz=True)]
    s3: S3Entity

    @property
    def key(self) -> str:
        """The object's key, decoded. It may hold anything: whoever sends events chooses it."""
        return unquote_plus(self.s3.object.key)

    @property
    def is_created(self) -> bool:
        """Whether the object is new, or has new content."""
        return self.event_name.removeprefix("s3:").startswith("ObjectCreated:")


class S3Event(Event, tag="s3.event"):
    """What happened to objects. It has no records where a store only tries whether it can be heard."""

    records: Annotated[list[S3Record], Meta(max_length=RECORDS_MAX)] = msgspec.field(name="Records")

    @classmethod
    def created(cls, bucket: str, key: str, *, size: int, at: datetime) -> "S3Event":
        """The event of one new object, as a store would tell it; `size` in bytes."""
        found = S3Entity(S3Bucket(bucket), S3Object(quote_plus(key, safe="/"), size))
        return cls([S3Record("ObjectCreated:Put", at, found)])
