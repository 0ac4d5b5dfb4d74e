"""Tables and progress for people."""

import sys
import time
from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, indent: int = 2) -> str:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" " * indent + "  ".join(cells).rstrip())
    return "\n".join(lines)


class Progress:
    """A bar on a terminal, a line for each tenth elsewhere; on standard error."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(1, total)
        self._tenth = 0
        self._began = time.monotonic()

    def show(self, count: int) -> None:
        """So many are done."""
        share = min(1.0, count / self._total)
        if sys.stderr.isatty():
            bar = "#" * int(share * 30)
            rate = count / max(0.001, time.monotonic() - self._began)
            end = "\n" if share == 1.0 and self._tenth < 10 else ""
            self._tenth = 10 if share == 1.0 else 0
            print(f"\r{self._what} [{bar:<30}] {share:4.0%} {rate:9,.0f}/s", end=end, file=sys.stderr, flush=True)
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            print(f"{self._what} {share:.0%}", file=sys.stderr, flush=True)
