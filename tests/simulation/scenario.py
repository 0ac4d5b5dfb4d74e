"""What one seed stands for: the application's limits, the records, and what goes wrong when. Pure."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from streamproc import Event
from streamproc.stream.options import StreamOptions

TOPIC, OUT = "events", "out"
RECORD_BYTES_MAX = 39_000
"""What the broker takes; dead letters of the largest records do not fit and are cut."""


class Step(Event, tag="step"):
    """Taken by `keyed`, in the order of the record's key."""

    uid: int


class Pair(Event, tag="pair"):
    """Taken by two functions, one of them in batches; ordered by a field."""

    uid: int
    who: str


class Bulk(Event, tag="bulk"):
    """Taken in batches, in the order of the record's key."""

    uid: int


class Free(Event, tag="free"):
    """Taken in no order."""

    uid: int


class Line(Event, tag="line"):
    """Taken one after the other in each partition."""

    uid: int


class Sent(Event, tag="sent"):
    """What functions emit."""

    call: int


FUNCTIONS: dict[str, tuple[str, ...]] = {
    "step": ("keyed",),
    "pair": ("pair_one", "pair_bulk"),
    "bulk": ("bulk",),
    "free": ("free",),
    "line": ("line",),
    "nobody": (),
    "broken": (),
    "tombstone": (),
}
"""What kinds of records there are, and which functions take them."""
ORDER: dict[str, Callable[["Made"], object]] = {
    "keyed": lambda made: made.key,
    "pair_one": lambda made: made.who,
    "pair_bulk": lambda made: made.who,
    "bulk": lambda made: made.key,
    "free": lambda made: made.uid,
    "line": lambda made: None,
}
"""What each function's order goes by."""
PEACE = ("good",) * 10 + ("slow",) * 3 + ("emits",)
TROUBLE = ("flaky", "flaky", "bad", "rejected", "later", "hangs", "rude")
"""Tempers of records; `crowd.py` says what they do."""


@dataclass(frozen=True, slots=True)
class Made:
    """A record to be produced. `temper` is how functions fare with it, `hole` one that no consumer ever sees."""

    uid: int
    at: float
    kind: str
    partition: int
    key: bytes | None
    who: str
    temper: str
    hole: bool
    size: int

    @property
    def value(self) -> bytes | None:
        """The record's value, as JSON."""
        if self.kind == "tombstone":
            return None
        if self.kind == "broken":
            return b'{"type":' + b" " * self.size
        text = f'{{"type":"{self.kind}","uid":{self.uid},"who":"{self.who}"}}'
        return text.encode() + b" " * self.size


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens to the group: join, leave, kill, evict or rebalance."""

    at: float
    what: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """How often the broker misbehaves, from 0 to 1, and from when to when it refuses all dead letters."""

    refused_send: float
    lost_send: float
    slow_send: float
    refused_commit: float
    lost_commit: float
    slow_commit: float
    dead_letters_down: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that is drawn before a run."""

    seed: int
    partitions: int
    members: int
    options: StreamOptions
    fetch_max: int
    concurrency: int
    retries: int
    batch_size: int
    batch_window_s: float
    slow_s: float
    faults_end: float
    rates: Rates
    records: list[Made] = field(repr=False)
    incidents: list[Incident]


def draw(seed: int) -> Scenario:
    """The scenario of a seed. Its theme is calm, handover (partitions wander while much is unfinished) or mixed."""
    rng = random.Random(seed)
    theme = rng.choices(("calm", "handover", "mixed"), (2, 3, 5))[0]
    partitions = rng.randint(1, 5)
    lasts_s = rng.uniform(1.0, 6.0)
    window_s = rng.choice((0.0, 0.0, 0.2, 2.0))
    return Scenario(
        seed=seed,
        partitions=partitions,
        members=rng.randint(1, 3),
        options=_options(rng, theme, roomy=window_s > 1),
        fetch_max=rng.choice((3, 8, 30)),
        concurrency=rng.choice((1, 2, 5, 40)),
        retries=rng.randint(0, 3),
        batch_size=rng.choice((1, 3, 10, 50)),
        batch_window_s=window_s,
        slow_s=rng.choice((0.0, 0.01, 0.05, 0.3)),
        faults_end=lasts_s + 1.0,
        rates=_rates(rng, theme, lasts_s),
        records=_records(rng, theme, partitions, lasts_s),
        incidents=sorted(_incidents(rng, theme, lasts_s), key=lambda incident: incident.at),
    )


def _options(rng: random.Random, theme: str, *, roomy: bool) -> StreamOptions:
    """With long windows there is room for what waits for them."""
    return StreamOptions(
        topics=[TOPIC],
        format="json",
        tombstones=rng.choice(("ignore", "dead_letter")),
        unknown_types=rng.choice(("dead_letter", "dead_letter", "ignore")),
        commit_interval_s=rng.choice((0.05, 0.2, 1.0)),
        commit_timeout_s=1.5 if theme == "handover" else rng.choice((0.4, 1.5)),
        drain_s=rng.choice((0.3, 1.5, 4.0)),
        partition_records_max=100 if roomy else rng.choice((5, 20, 100)),
        in_flight_bytes_max=1_000_000 if roomy else rng.choice((3_000, 20_000, 200_000)),
        span_max=1_000 if roomy else rng.choice((10, 40, 1_000)),
    )


def _rates(rng: random.Random, theme: str, lasts_s: float) -> Rates:
    def rate(most: float) -> float:
        return 0.0 if theme == "calm" else rng.choice((0.0, 0.2, 1.0)) * most

    handover = theme == "handover"
    down = rng.uniform(0, lasts_s)
    return Rates(
        refused_send=0.4 if handover else rate(0.3),
        lost_send=rate(0.3),
        slow_send=rate(0.5),
        refused_commit=0.0 if handover else rate(0.5),
        lost_commit=0.0 if handover else rate(0.5),
        slow_commit=0.8 if handover else rate(0.6),
        dead_letters_down=(down, down + rate(3.0)),
    )


def _records(rng: random.Random, theme: str, partitions: int, lasts_s: float) -> list[Made]:
    kinds = rng.sample(["step", "pair", "bulk", "free", "line"], rng.randint(1, 4))
    weights = [10.0] * len(kinds) + [rng.choice((0.2, 2.0)), 0.2, 0.2]
    kinds += ["nobody", "broken", "tombstone"]
    keys = rng.choice((2, 8, 60))
    tempers = ("rejected", "bad", "later", "flaky") if theme == "handover" else TROUBLE
    trouble = 0.4 if theme == "handover" else rng.choice((0.0, 0.05, 0.3))
    early = rng.random() < 0.5
    return [
        Made(
            uid=uid,
            at=0.0 if early and uid % 2 else rng.uniform(0, lasts_s),
            kind=rng.choices(kinds, weights)[0],
            partition=rng.randrange(partitions),
            key=None if rng.random() < 0.05 else b"k%d" % rng.randrange(keys),
            who=f"w{rng.randrange(keys)}",
            temper=rng.choice(tempers if rng.random() < trouble else PEACE),
            hole=rng.random() < 0.03,
            size=rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 2_000, 38_500)),
        )
        for uid in range(rng.choice((30, 150, 300)))
    ]


def _incidents(rng: random.Random, theme: str, lasts_s: float) -> list[Incident]:
    kinds = ("join", "leave", "kill", "evict", "rebalance") if theme == "mixed" else ("join", "leave", "rebalance")
    count = 14 if theme == "handover" else rng.choice((0, 2, 6, 12))
    return [
        Incident(at=rng.uniform(0.05, lasts_s + 0.5), what=rng.choice(kinds), delay_s=rng.choice((0.0, 0.3, 2.0)))
        for _ in range(count)
    ]
