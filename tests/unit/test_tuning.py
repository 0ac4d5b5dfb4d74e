import platform
import subprocess
import sys

import pytest

PROGRAM = """
import gc, resource
from streamproc.tuning import COLLECT_AFTER, tune
tune()
assert gc.get_threshold()[0] == COLLECT_AFTER and gc.get_freeze_count() > 0
for round in range(30):
    if round == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [bytearray(4_000_000) for _ in range(4)]
    del kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is tuned")
def test_buffers_are_used_again() -> None:
    """20 rounds of 16 MB are 78,000 pages; without tuning each is faulted in again."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000


FILES = """
import resource
from streamproc.tuning import tune
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
tune()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
kept = [open("/dev/null") for _ in range(min(300, hard // 2))]
"""


def test_a_connection_is_a_file_so_all_that_the_system_allows_may_be_open() -> None:
    subprocess.run([sys.executable, "-c", FILES], check=True)
