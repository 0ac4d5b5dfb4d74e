"""`python -m tests.simulation --seed N [--verbose]` replays one seed, `--seeds N` runs the first N."""

import argparse
import sys
import time
from dataclasses import asdict

from tests.simulation.facts import Violation
from tests.simulation.run import simulate
from tests.simulation.scenario import draw


def main() -> int:
    """Exit code 1 when something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--verbose", action="store_true", help="tell the whole story")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        failed += not _run(seed, verbose=options.verbose)
    if options.seeds > 1:
        print(f"{options.seeds} seeds, {failed} failed")
    return 1 if failed else 0


def _run(seed: int, *, verbose: bool) -> bool:
    if verbose:
        print(draw(seed))
    began = time.perf_counter()
    try:
        counts, story = simulate(seed, verbose=verbose)
    except Violation as violation:
        print("\n".join(violation.__notes__))
        print(f"seed {seed}: {violation}")
        return False
    took = time.perf_counter() - began
    figures = ", ".join(f"{count} {name}" for name, count in asdict(counts).items())
    print("\n".join([*story, f"seed {seed}: holds in {took:.3f} s: {figures}"]))
    return True


if __name__ == "__main__":
    sys.exit(main())
