"""What one seed stands for: members, records, and what happens to the cluster and to its members when. Pure."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tests.simulation.wire.faults import Rates
from tests.simulation.wire.protocol import Api

End = Literal["", "commit", "abort", "hang"]
Theme = Literal["calm", "storm", "network", "members", "topics", "namesake", "scripted"]
CODECS = range(5)
HOUR_MS = 3_600_000
FATES = ("good",) * 12 + ("slow",) * 3 + ("flaky", "reject", "broken", "tombstone")


@dataclass(frozen=True, slots=True)
class Made:
    """A record to be written. `fate` says how functions fare with it; `shift_ms` how wrong its timestamp is."""

    uid: int
    kind: Literal["step", "bulk"]
    key: int
    fate: str
    shift_ms: int

    def value(self) -> bytes | None:
        """Its value, as JSON."""
        if self.fate == "tombstone":
            return None
        text = b'{"type":"%s","uid":%d,"fate":"%s"' % (self.kind.encode(), self.uid, self.fate.encode())
        return text + (b"" if self.fate == "broken" else b"}")


@dataclass(frozen=True, slots=True)
class Write:
    """Records that are written as one batch. `end` says how their transaction ends, "" where there is none.

    One that is to "hang" stays open: nothing behind it can be read.
    """

    at: float
    partition: int
    records: Sequence[Made]
    codec: int
    end: End
    open_s: float


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens."""

    at: float
    what: str
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is drawn before a run. Times are in seconds from its beginning."""

    seed: int
    theme: Theme
    nodes: int
    partitions: int
    members: int
    starting_position: Literal["trim_horizon", "latest"]
    record_batches: bool
    static: bool
    commit_interval_s: float
    partition_records_max: int
    batch_size: int
    history: Sequence[Write]
    writes: Sequence[Write]
    incidents: Sequence[Incident]
    default: Rates
    rates: Mapping[Api, Rates]
    ends_at: float


THEMES: tuple[Theme, ...] = ("calm", "storm", "network", "network", "members", "members", "topics", "namesake")
WHAT: Mapping[Theme, Sequence[str]] = {
    "calm": ("join", "leave"),
    "storm": ("join", "leave"),
    "network": ("join", "leave", "move coordinator", "move leader", "cut", "stop node"),
    "members": ("join", "join", "leave", "kill", "freeze", "freeze", "freeze", "move coordinator"),
    "topics": ("join", "leave", "grow", "make anew", "trim", "trim too far", "compact"),
    "namesake": ("namesake",),
}


def draw(seed: int) -> Story:
    """Returns the story of a seed."""
    rng = random.Random(seed)
    theme = THEMES[seed % len(THEMES)]
    lasts_s = 20.0 if theme == "storm" else rng.uniform(6.0, 20.0)
    busy = theme == "storm" or (theme == "members" and rng.random() < 0.5)
    fates = (*FATES, *("slow",) * 6) if busy else (*FATES * 3, "stuck")
    partitions = 4 if theme == "storm" else rng.randint(1, 1 if busy else 4)
    keys = 2 if busy else rng.choice((2, 10, 50))
    odd_times = rng.random() < 0.3
    uids = iter(range(10_000))

    def records(count: int) -> list[Made]:
        return [
            Made(
                uid=next(uids),
                kind=rng.choice(("step", "bulk")),
                key=rng.randrange(keys),
                fate=rng.choice(fates),
                shift_ms=rng.choice((0, -87_600 * HOUR_MS, 24 * HOUR_MS, 0)) if odd_times else 0,
            )
            for _ in range(count)
        ]

    count, records_max = (400, 2) if busy else (rng.choice((10, 30)), 8)

    def write(at: float, *, in_time: bool = True) -> Write:
        end: End = rng.choice(("",) * (60 if busy else 4) + ("commit", "abort"))
        open_s = rng.choice((0.0, 0.5, 3.0)) if in_time else 0.0
        return Write(
            at, rng.randrange(partitions), records(rng.randint(1, records_max)), rng.choice(CODECS), end, open_s
        )

    writes = sorted((write(rng.uniform(0.0, lasts_s)) for _ in range(count)), key=lambda one: one.at)
    if theme != "topics" and rng.random() < 0.2:
        writes[-3:] = [replace(writes[-3], end="hang"), *writes[-2:]]
    return Story(
        seed=seed,
        theme=theme,
        nodes=rng.choice((1, 3)) if theme == "network" else 1,
        partitions=partitions,
        members={"namesake": 1, "storm": 3}.get(theme) or rng.randint(1, 3),
        starting_position="trim_horizon" if theme == "topics" else rng.choice(("trim_horizon", "latest")),
        record_batches=rng.random() < 0.6,
        static=theme in ("namesake", "members") and (theme == "namesake" or rng.random() < 0.3),
        commit_interval_s=rng.choice((0.1, 0.5, 2.0)),
        partition_records_max=4_000 if busy else rng.choice((5, 50, 4_000)),
        batch_size=rng.choice((1, 5, 50)),
        history=[write(0.0, in_time=False) for _ in range(30 if busy else rng.choice((0, 3)))],
        writes=writes,
        incidents=sorted(_incidents(rng, theme, lasts_s), key=lambda one: one.at),
        default=_default(rng, theme),
        rates=_rates(rng, theme),
        ends_at=lasts_s + 1.0,
    )


def _incidents(rng: random.Random, theme: Theme, lasts_s: float) -> list[Incident]:
    if theme == "namesake":
        return [Incident(rng.uniform(2.0, 5.0), "namesake", 0.0)]
    return [
        Incident(rng.uniform(0.2, lasts_s), rng.choice(WHAT[theme]), rng.choice((0.5, 2.0, 9.0)))
        for _ in range(12 if theme == "storm" else rng.choice((3, 8, 14)))
    ]


def _default(rng: random.Random, theme: Theme) -> Rates:
    if theme in ("calm", "storm", "namesake"):
        return Rates(slow=0.2, slow_answer=0.2, slow_s=0.1)
    bad = rng.choice((0.0, 0.01, 0.05)) if theme == "network" else 0.0
    return Rates(slow=0.1, slow_answer=0.1, cut_before=bad, cut_after=bad, error=2 * bad, slow_s=rng.choice((0.1, 1.0)))


def _rates(rng: random.Random, theme: Theme) -> dict[Api, Rates]:
    """The coordinator answers slowly in most seeds: where does a group stand, who are its members."""
    slow_s = rng.choice((0.0, 0.4, 1.5))
    if not slow_s or theme == "namesake":
        return {}
    base = _default(rng, theme)
    slow = Rates(1.0, 0.5, base.cut_before, base.cut_after, base.error, slow_s)
    return {api: slow for api in (Api.OFFSET_FETCH, Api.JOIN_GROUP, Api.SYNC_GROUP) if rng.random() < 0.6}
