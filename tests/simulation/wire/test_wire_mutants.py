"""The faults that users met, put back one by one: the oracle must catch each, or it is too weak."""

from collections.abc import Iterator

import pytest

from tests.simulation.wire.mutants import MUTANTS, Mutant
from tests.simulation.wire.oracle import Violation
from tests.simulation.wire.play import play
from tests.simulation.wire.story import draw

SEEDS_MAX = 50
"""Seeds of the mutant's own themes."""


def _violations(mutant: Mutant) -> Iterator[tuple[int, int, Violation]]:
    played = seed = 0
    while played < SEEDS_MAX:
        if draw(seed).theme in mutant.themes:
            played += 1
            try:
                play(seed, mutant.judges)
            except Violation as violation:
                yield played, seed, violation
        seed += 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_build_is_caught(mutant: Mutant) -> None:
    """By an invariant that it breaks, within some seeds."""
    with mutant.install():
        played, seed, violation = next(_violations(mutant), (0, 0, None))
    assert violation is not None, f"{mutant.name} was not caught in {SEEDS_MAX} seeds"
    print(f"{mutant.name}: {violation.invariant} at seed {seed}, the {played}th: {violation}")
    assert violation.invariant in mutant.judges
