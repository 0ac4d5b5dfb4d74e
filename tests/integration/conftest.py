"""The two ways in which the service reads from Kafka."""

import pytest


@pytest.fixture(params=["record batches", "record by record"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that are started read whole record batches, or fall back to the client's public interface."""
    monkeypatch.setenv("STREAMPROC_KAFKA__RECORD_BATCHES", str(request.param == "record batches").lower())
