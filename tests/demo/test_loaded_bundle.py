import gc
import threading
import tomllib
from pathlib import Path

import twotower.demo
from twotower.demo.loaded_bundle import WARMING, open_once


def test_a_click_does_not_wait_until_garbage_is_collected(bundle_folder: Path) -> None:
    gc.unfreeze()
    open_once.cache_clear()
    open_once(str(bundle_folder), "any", None, None)
    for thread in threading.enumerate():
        if thread.name == WARMING:
            thread.join(30)
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    config = Path(twotower.demo.__file__).with_name(".streamlit") / "config.toml"
    assert tomllib.loads(config.read_text())["runner"]["postScriptGC"] is False
