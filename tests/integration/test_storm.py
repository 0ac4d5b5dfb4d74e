"""Nothing is lost and no key's order is broken while members join and leave all the time, on a real Kafka.

A run draws a seed and says it; STREAMPROC_TEST_STORM_SEED repeats what it decides, though not the timing of a real
broker. STREAMPROC_TEST_STORM_SECONDS=60 is the long form.
"""

import os
import random
from pathlib import Path

import pytest

from tests.integration.harness import Call
from tests.integration.storm import Outcome, Storm, Worker, out_of_order

SEED = int(os.environ.get("STREAMPROC_TEST_STORM_SEED") or random.randrange(1_000_000))
SECONDS = float(os.environ.get("STREAMPROC_TEST_STORM_SECONDS") or 20)


@pytest.mark.broker
@pytest.mark.timeout(SECONDS + 240)
def test_a_storm_of_joins_and_leaves_loses_nothing_and_breaks_no_order(tmp_path: Path, bootstrap: str) -> None:
    print(f"STREAMPROC_TEST_STORM_SEED={SEED}")
    outcome = Storm(bootstrap, tmp_path, SEED, SECONDS).run()
    for name, value in outcome.table().items():
        print(f"{name}: {value}")
    assert list(outcome.faults()) == []


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([Call("a", 0, 1, 0.0, 1.0), Call("a", 1, 2, 1.0, 2.0), Call("b", 0, 1, 0.5, 1.5)], ""),
        ([Call("a", 0, 1, 0.0, 1.0), Call("a", 1, 1, 1.0, 2.0), Call("a", 0, 2, 3.0, 4.0)], ""),
        ([Call("a", 0, 1, 0.0, 2.0), Call("a", 1, 2, 1.0, 3.0)], "calls overlap"),
        ([Call("a", 1, 1, 0.0, 1.0), Call("a", 0, 2, 1.0, 2.0)], "record 0 was first handled after record 1"),
        ([Call("a", 0, 1, 0.0, 0.0)], "did not end"),
        ([Call("a", 0, 9, 0.0, 0.0), Call("a", 0, 2, 6.0, 7.0)], ""),
        ([Call("a", 0, 9, 0.0, 0.0), Call("a", 0, 2, 4.0, 6.0)], "calls overlap"),
        ([Call("a", 0, 9, 0.0, 0.0), Call("a", 1, 2, 6.0, 7.0), Call("a", 0, 2, 7.0, 8.0)], "record 0 was first"),
    ],
)
def test_what_breaks_the_order_of_a_key(calls: list[Call], problem: str) -> None:
    """Process 9 was killed at 5.0."""
    found = out_of_order(calls, {9: 5.0})
    assert found.keys() == ({"a"} if problem else set())
    assert problem in found.get("a", "")


def test_what_is_told_of_a_storm_that_went_wrong(tmp_path: Path) -> None:
    outcome = Outcome(
        tmp_path,
        {"seed": 1},
        sent={("a", 0), ("a", 1), ("a", 2)},
        acknowledged={("a", 0): (3, 10), ("a", 1): (3, 11), ("a", 2): (3, 12)},
        turns=[0.0],
        workers=[Worker(7, tmp_path / "worker-0.log", code=1)],
        calls=[Call("a", 0, 7, 0.0, 1.0), Call("z", 0, 7, 0.0, 1.0)],
        commits={3: (12, 13)},
        dead_letters=2,
    )
    assert list(outcome.faults()) == [
        "2 acknowledged records were never handled, ('a', 1) the first; partition 3: offsets 11-12",
        "1 records were handled that were never sent: ('z', 0)",
        "partition 3: commits reached 12, not the end 13",
        "2 dead letters",
        "worker 7 (worker-0.log) ended by itself with exit code 1",
    ]
