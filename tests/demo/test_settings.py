from pathlib import Path

from twotower.demo.settings import DEFAULT_BUNDLE, DemoSettings


def test_arguments_come_before_the_environment() -> None:
    environment = {"TWOTOWER_BUNDLE": "from-environment", "TWOTOWER_API_KEY": "tt_x"}
    assert DemoSettings.read([], {}).bundle == DEFAULT_BUNDLE
    assert DemoSettings.read([], environment).bundle == "from-environment"
    arguments = ["--bundle", "b", "--api", "http://h", "--results", "r.json", "--results", "s"]
    assert DemoSettings.read(arguments, environment) == DemoSettings(
        "b", "http://h", "tt_x", (Path("r.json"), Path("s"))
    )


def test_other_arguments_are_ignored() -> None:
    assert DemoSettings.read(["-q", "--strict-markers", "tests"], {}).bundle == DEFAULT_BUNDLE
