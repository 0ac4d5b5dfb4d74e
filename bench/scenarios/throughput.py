"""What a record costs when functions take batches; peers in the largest unit they offer, and bare where they can."""

from bench.brokers import Target
from bench.contenders import bare, ours, peers
from bench.contest import Results, play
from bench.scenario import COST, Scenario
from bench.topics import Filling, filled


def run(target: Target, quick: bool, results: Results) -> None:
    """All read the same topic in turns."""
    count, rounds, seconds = (400_000, 2, 1.2) if quick else (2_000_000, 3, 3.0)
    working, results.left_out = peers(["batch", "record"])
    dropping, _ = peers(["drop"])
    with filled(target, Filling(count), seconds=seconds) as course:
        contenders = [bare(), ours("batch", "streamproc, batches of 500"), *working, *dropping]
        play(contenders, course, rounds=rounds, results=results)


SCENARIO = Scenario("throughput", "batches", run, COST)
