"""What a record costs when functions take one event a call, in order per key."""

from bench.brokers import Target
from bench.contenders import bare, ours, peers
from bench.contest import Results, play
from bench.scenario import COST, Scenario
from bench.topics import Filling, filled


def run(target: Target, quick: bool, results: Results) -> None:
    """All read the same topic in turns."""
    count, rounds, seconds = (400_000, 2, 1.2) if quick else (1_500_000, 3, 3.0)
    others, results.left_out = peers(["record"])
    with filled(target, Filling(count), seconds=seconds) as course:
        contenders = [bare(), ours("record", "streamproc, one event a call"), *others]
        play(contenders, course, rounds=rounds, results=results)


SCENARIO = Scenario("per_record", "one event a call", run, COST)
