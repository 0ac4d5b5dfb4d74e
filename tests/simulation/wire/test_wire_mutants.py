"""The faults that users met, put back one by one: the oracle must catch each, or it is too weak."""

import os
from collections.abc import Iterator

import pytest

from tests.simulation.wire.mutants import MUTANTS, Mutant
from tests.simulation.wire.oracle import Violation
from tests.simulation.wire.play import play
from tests.simulation.wire.story import draw

SEEDS_MAX = 50
"""Seeds of the mutant's own themes."""
MET = {
    "passes_what_the_engine_never_took",
    "forgets_the_chosen_start",
    "compares_with_the_high_watermark",
    "stands_before_markers",
    "dates_letters_as_their_records",
    "takes_a_namesake_for_a_rebalance",
}
"""What users met. STREAMPROC_TEST_WIRE_MUTANTS=all tries the other broken builds as well, which takes long."""
CHOSEN = [one for one in MUTANTS if one.name in MET or os.environ.get("STREAMPROC_TEST_WIRE_MUTANTS") == "all"]


def _violations(mutant: Mutant) -> Iterator[tuple[int, int, Violation]]:
    played = seed = 0
    while played < SEEDS_MAX:
        if draw(seed).theme in mutant.themes:
            played += 1
            try:
                play(seed, mutant.judges)
            except Violation as violation:
                if violation.invariant in mutant.judges:
                    yield played, seed, violation
        seed += 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_a_broken_build_is_caught(mutant: Mutant) -> None:
    """By an invariant that it breaks, within some seeds."""
    with mutant.install():
        played, seed, violation = next(_violations(mutant), (0, 0, None))
    assert violation is not None, f"{mutant.name} was not caught in {SEEDS_MAX} seeds"
    print(f"{mutant.name}: {violation.invariant} at seed {seed}, the {played}th: {violation}")
    assert violation.invariant in mutant.judges
