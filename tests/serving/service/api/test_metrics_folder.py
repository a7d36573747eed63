import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from twotower.service.api.server import metrics_folder

HOLD = """
import time
from twotower.service.api.server import metrics_folder
with metrics_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_gone_after_the_block(temporary) -> None:
    with metrics_folder() as folder:
        assert folder.parent == temporary
    assert not list(temporary.iterdir())


def test_the_next_one_removes_that_of_a_killed_process_and_no_other(temporary) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        theirs = Path(other.stdout.readline().strip())
        with metrics_folder() as ours:
            assert theirs.is_dir()
            other.send_signal(signal.SIGKILL)
            other.wait()
            with metrics_folder():
                assert not theirs.exists()
                assert ours.is_dir()
