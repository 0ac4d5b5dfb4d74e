"""How records are read and settled: section `[stream]` of the settings."""

import re
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Format = Literal["kinesis", "base64", "json", "cloudevents", "s3", "auto"]
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[stream]`. Durations are in seconds, sizes in bytes."""

    topics: Annotated[list[str], Meta(min_length=1, description="input topics")] = msgspec.field(
        default_factory=lambda: ["events"]
    )
    format: Annotated[Format, Meta(description="how a record holds its event")] = "kinesis"
    formats: Annotated[dict[str, Format], Meta(description="topic -> format, where it differs")] = msgspec.field(
        default_factory=dict
    )
    starting_position: Annotated[
        Literal["trim_horizon", "latest", "at_timestamp"],
        Meta(description="where a group without a committed offset begins"),
    ] = "trim_horizon"
    starting_timestamp: Annotated[datetime, Meta(tz=True, description="for at_timestamp")] | None = None
    unknown_types: Annotated[
        Literal["dead_letter", "ignore"], Meta(description="what becomes of an event type without a function")
    ] = "dead_letter"
    tombstones: Annotated[
        Literal["dead_letter", "ignore"], Meta(description="what becomes of a record without a value")
    ] = "dead_letter"
    strict_json: Annotated[bool, Meta(description="dead-letter objects that name a key twice")] = False
    max_record_bytes: Annotated[int, Meta(ge=1, description="larger values are dead letters, undecoded")] = 1_048_576
    dead_letter_topic: Annotated[str, Meta(description="{topic} stands for the input topic")] = "{topic}.dlq"
    dead_letter_headers: Annotated[
        Literal["connect", "none"], Meta(description="a second set of failure headers other tools read")
    ] = "connect"
    consumers: Annotated[int, Meta(ge=1, le=64, description="consumers in one process")] = 1
    workers: Annotated[int, Meta(ge=1, le=256, description="processes")] = 1
    commit_interval_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    commit_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 5.0
    drain_s: Annotated[float, Meta(ge=0, le=600, description="for calls in flight when partitions are given up")] = 10.0
    grace_s: Annotated[float, Meta(ge=0, le=3600, description="from SIGTERM to the end")] = 25.0
    partition_records_max: Annotated[int, Meta(ge=1, description="unsettled records of one partition")] = 4_000
    in_flight_bytes_max: Annotated[int, Meta(ge=1, description="bytes held of all partitions")] = 33_554_432
    span_max: Annotated[int, Meta(ge=1, description="offsets from the oldest unsettled record to the newest")] = 100_000

    def format_of(self, topic: str) -> Format:
        """How the records of a topic hold their events."""
        return self.formats.get(topic, self.format)

    def __post_init__(self) -> None:
        if self.starting_position == "at_timestamp" and self.starting_timestamp is None:
            raise ValueError("starting_position = at_timestamp needs starting_timestamp")
        for topic in self.topics:
            if not _TOPIC.fullmatch(topic):
                raise ValueError(
                    f"topics: {topic[:300]!r} is no topic name: it may hold letters, digits, dot, dash and _, and be"
                    " 249 characters long; several are separated by commas"
                )
        longest = max(self.topics, key=len)
        if not _TOPIC.fullmatch(self.dead_letter_topic.replace("{topic}", longest)):
            raise ValueError(
                f"dead_letter_topic = {self.dead_letter_topic!r} makes no topic name: it may hold {{topic}}, letters,"
                " digits, dot, dash and _, and be 249 characters long"
            )
        if not self.dead_letter_topic.replace("{topic}", "").strip("."):
            raise ValueError("dead_letter_topic must differ from the input topic")
