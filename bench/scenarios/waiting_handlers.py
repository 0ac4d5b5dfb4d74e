"""Calls that wait 5 ms, up to 1,000 at once, in order per key: with many keys and with few.

The ideal is min(1,000, keys) / 5 ms. `overlaps` counts calls that began while an earlier one of their key ran.
"""

from dataclasses import replace

from bench.brokers import Target
from bench.contenders import ours, peers
from bench.contest import Contender, Results, play
from bench.ours import CONCURRENCY, WAIT_S
from bench.scenario import Column, Figures, Scenario, cpu, memory, rate, spread
from bench.topics import Filling, filled

MANY, FEW = 10_000, 200


def run(target: Target, quick: bool, results: Results) -> None:
    """Two topics, one after the other."""
    count, rounds, seconds = (200_000, 2, 2.0) if quick else (600_000, 5, 5.0)
    others, results.left_out = peers(["waiting"])
    mine = ours("waiting", "streamproc")
    for keys in (MANY, FEW):
        with filled(target, Filling(count, keys=keys), seconds=seconds) as course:
            play([_of(keys, replace(mine, rate=_ideal(keys)))], course, rounds=rounds, results=results)
            play([_of(keys, one) for one in others], course, rounds=1 if quick else 3, results=results)
        for name in (name for name in results.rounds if name.endswith(f"-{keys}")):
            for one in results.rounds[name]:
                one["share_of_ideal"] = one["records_per_s"] / _ideal(keys)


def _of(keys: int, contender: Contender) -> Contender:
    return replace(contender, name=f"{contender.name}-{keys}", title=f"{keys:,} keys: {contender.title}")


def _ideal(keys: int) -> float:
    return min(CONCURRENCY, keys) / WAIT_S


def share(one: Figures, _bare: Figures) -> str:
    """Of the ideal."""
    return f"{one['share_of_ideal']:.0%}"


def overlaps(one: Figures, _bare: Figures) -> str:
    """Calls out of order or at once."""
    return f"{one.get('overlaps', 0):,.0f}"


COLUMNS: dict[str, Column] = {
    "records/s": rate,
    "of ideal": share,
    "us CPU/record": cpu,
    "spread": spread,
    "overlaps": overlaps,
    "peak MiB": memory,
}
SCENARIO = Scenario("waiting_handlers", "calls that wait 5 ms", run, COLUMNS)
