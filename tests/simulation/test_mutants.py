"""Broken builds are caught, or the judges are too weak."""

from collections.abc import Iterator

import pytest

from tests.simulation import mutants_endings, mutants_settling
from tests.simulation.facts import Violation
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import simulate

SEEDS_MAX = 120
INVARIANTS = {
    *("SAFE-COMMIT", "ONE-IN-FLIGHT", "KEY-ORDER", "EXACT-SETTLE", "FENCED", "BOUNDED", "DEAD-BEFORE-DONE", "DRAINS"),
    *("L", "D"),
}
assert mutants_endings.__name__ != mutants_settling.__name__  # both enter their mutants in the list


@pytest.fixture(scope="module")
def catchers() -> set[str]:
    """The invariants that have caught something."""
    return set()


def _violations() -> Iterator[tuple[int, Violation]]:
    for seed in range(SEEDS_MAX):
        try:
            simulate(seed)
        except Violation as violation:
            yield seed, violation


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_build_is_caught(mutant: Mutant, catchers: set[str]) -> None:
    """By an invariant that it breaks, within some seeds."""
    with mutant.install():
        seed, violation = next(_violations(), (SEEDS_MAX, None))
    assert violation is not None, f"{mutant.name} was not caught in {SEEDS_MAX} seeds"
    print(f"{mutant.name}: {violation.invariant} at seed {seed}: {violation}")
    assert violation.invariant in mutant.caught_by
    catchers.add(violation.invariant)


def test_each_invariant_catches_something(catchers: set[str]) -> None:
    """No invariant is there for show."""
    if not catchers:
        pytest.skip("no mutant was run")
    assert catchers == INVARIANTS


def test_what_a_mutant_breaks_is_repaired() -> None:
    """After all those breaks the sound build still holds."""
    for seed in range(10):
        simulate(seed)
