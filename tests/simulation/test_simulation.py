"""The real pipeline under drawn faults. A failure names the seed; `python -m tests.simulation --seed N --verbose`."""

import os
from collections import Counter
from dataclasses import asdict

import pytest

from tests.simulation.run import simulate

SEEDS = int(os.environ.get("STREAMPROC_TEST_SEEDS", "500"))
BLOCK = 50
RARE = {"letters_cut": 5, "commits_stale": 5, "overlaps": 5}
"""What must happen at least so often in 500 seeds; everything else at least a hundred times."""


@pytest.fixture(scope="module")
def happened() -> Counter[str]:
    """What happened in all seeds together."""
    return Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_seeds(first: int, happened: Counter[str]) -> None:
    """All invariants hold at every step."""
    for seed in range(first, min(first + BLOCK, SEEDS)):
        counts, _ = simulate(seed)
        happened.update(asdict(counts))


def test_faults_do_happen(happened: Counter[str]) -> None:
    """A simulation in which nothing goes wrong shows nothing."""
    if happened["records"] < 10_000:
        pytest.skip("only some seeds were run")
    print(dict(happened))
    missing = {name: count for name, count in happened.items() if count < RARE.get(name, 100)}
    assert missing == {}


def test_a_seed_replays_step_by_step() -> None:
    """The same seed takes the same steps, or a failure could not be looked into."""
    for seed in (3, 14, 15):
        first, second = simulate(seed, verbose=True), simulate(seed, verbose=True)
        assert first == second
        assert first[1]
