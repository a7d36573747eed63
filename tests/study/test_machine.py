from twotower.study.machine import available_bytes


def test_there_is_memory_left() -> None:
    assert available_bytes() > 2**20
