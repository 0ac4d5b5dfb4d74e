"""What a record costs when functions take batches; peers in the largest unit they offer."""

from bench.brokers import Target
from bench.contenders import bare, ours, peers
from bench.contest import Results, play
from bench.scenario import COST, Scenario
from bench.topics import Filling, filled


def run(target: Target, quick: bool, results: Results) -> None:
    """All read the same topic in turns."""
    count, rounds, seconds = (400_000, 2, 3.0) if quick else (2_000_000, 5, 8.0)
    others, results.left_out = peers(["batch", "record"])
    with filled(target, Filling(count), seconds=seconds) as course:
        play([bare(), ours("batch", "streamproc, batches of 500")], course, rounds=rounds, results=results)
        play(others, course, rounds=1 if quick else 3, results=results)


SCENARIO = Scenario("throughput", "batches", run, COST)
