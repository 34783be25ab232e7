"""The tests have a store of their own, with the model in it."""

import os
import subprocess
import sys

import pytest
from edged_example_recognizer import MODEL


@pytest.fixture(scope="session", autouse=True)
def model(tmp_path_factory):
    os.environ["EDGED_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    subprocess.run([sys.executable, "-m", "edged", "models", "add", MODEL], check=True)
