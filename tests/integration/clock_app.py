"""The application on a wall clock that a test sets: the file CLOCK holds the seconds that it is ahead."""

import os
import time
from pathlib import Path

from handlers.app import app as app

_REAL = time.time


def _set_time() -> float:
    return _REAL() + float(Path(os.environ["CLOCK"]).read_text())


time.time = _set_time
