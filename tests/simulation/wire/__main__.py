"""`python -m tests.simulation.wire --seeds 20000`, or `--seed N --verbose` to see one."""

import argparse
import multiprocessing
import sys
import time
from collections import Counter

from tests.simulation.wire.play import attempt, play

SHOWN_EVERY = 500
CHUNK, CHUNKS_MAX = 10, 20


def main() -> int:
    """Plays what the command line says; 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.wire", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", type=int, default=150, help="so many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print the trace")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    if chosen.seed is not None:
        oracle, trace = play(chosen.seed)
        print("\n".join(trace if chosen.verbose else []), dict(oracle.counts))
        return 0
    began, total, failed = time.monotonic(), Counter[str](), 0
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    # A process that plays more of them grows: what killed members held is not all freed.
    with multiprocessing.Pool(chosen.processes, maxtasksperchild=CHUNKS_MAX) as pool:
        for number, (seed, counts, violated) in enumerate(pool.imap(attempt, seeds, CHUNK), 1):
            total += counts
            if violated:
                failed += 1
                print(f"seed {seed}: {violated}")
            if number % SHOWN_EVERY == 0:
                print(f"{number} seeds, {failed} violated, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"{chosen.seeds} seeds, {failed} violated, {time.monotonic() - began:.0f} s: {dict(total)}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
