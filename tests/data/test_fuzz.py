import importlib.util
import random
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).with_name("fuzz_prepare.py")


def script() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_prepare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = script()


@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_any_input_ends_with_a_data_set_or_one_line(rng: random.Random) -> None:
    assert FUZZ.outcome(rng) in ("data set", "error")


def test_many_inputs_end_with_a_data_set_or_one_line() -> None:
    ends = [FUZZ.outcome(random.Random(number)) for number in range(60)]
    assert set(ends) == {"data set", "error"}
