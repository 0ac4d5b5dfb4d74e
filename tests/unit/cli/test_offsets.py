"""`skip`: what it asks of the person who leaves something out."""

import pytest

from tests.unit.cli.conftest import Streamproc


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_must_be_given(streamproc: Streamproc, reason: str) -> None:
    result = streamproc("skip", "events", "0", "0", "--reason", reason)
    assert result.exit_code == 2
    assert "say why, for whoever finds the dead letter" in result.stderr
