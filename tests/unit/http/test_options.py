"""Which hosts only this machine can reach."""

import pytest

from streamproc.http.options import is_loopback


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_only_this_machine_reaches_it(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "localhost.example"])  # noqa: S104
def test_others_may_reach_it(host: str) -> None:
    assert not is_loopback(host)
