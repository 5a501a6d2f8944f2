"""Commands name files from the current directory: here that is where the files are."""

import pytest


@pytest.fixture(autouse=True)
def _beside_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
