"""Market captures for tests, which are never part of the project.

In: `CASCADE_TEST_DATA`, or `../shared/data` beside the project. Out: paths. Never: a silent pass without the data that
somebody promised by setting the variable.
"""

import os
from pathlib import Path

import pytest

VARIABLE = "CASCADE_TEST_DATA"
PROJECT = Path(__file__).resolve().parents[2]


def data_file(relative: str) -> Path:
    """Return the path of a data file or folder.

    Skips the test with a reason when the data is absent; fails it when the variable is set and the data is absent.
    """
    promised = os.environ.get(VARIABLE)
    path = (Path(promised) if promised else PROJECT.parent / "shared" / "data") / relative
    if path.exists():
        return path
    if promised:
        pytest.fail(f"{VARIABLE} is set, but {path} does not exist")
    pytest.skip(f"test data {relative} is absent: set {VARIABLE} to the folder that holds it")
