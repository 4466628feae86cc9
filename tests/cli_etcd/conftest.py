import pytest


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):  # type: ignore[no-untyped-def]
    """No test leaves a data directory behind or reads a stray configuration."""
    monkeypatch.chdir(tmp_path)
