import pytest

from twotower.bundle.manifest import EpochInfo, ModelInfo, TrainingInfo
from twotower.demo import training
from twotower.demo.loaded_bundle import LoadedBundle

CHOSEN = {
    "least_squares": {
        "factors": {"embedding_dim": 128, "recency": 0.75, "next_item": False},
        "metric": 0.26,
        "trials": [{"setting": "start", "value": None, "NDCG@10": 0.21}, {"NDCG@10": 0.26}],
    },
    "gaps": {"read": False, "with": 0.11, "without": 0.12},
    "columns": {"read": ["events"], "tried": {"none": 0.2, "items": 0.1, "events": 0.3}},
    "factor_weight": 2.8,
    "factor_weights": {"0.5": 0.2, "2.828": 0.28},
    "towers_alone": 0.12,
}


@pytest.fixture
def info(loaded: LoadedBundle) -> ModelInfo:
    return loaded.manifest.info


def test_a_bundle_tells_how_its_model_was_trained(info: ModelInfo) -> None:
    trained = info.training
    assert trained is not None
    assert trained.best is not None
    validated = [epoch.validation for epoch in trained.epochs]
    assert validated[trained.best] == max(one for one in validated if one is not None)
    found = training.facts(trained)
    assert found["epochs"] == str(len(trained.epochs))
    assert found["weights kept of epoch"] == str(trained.best + 1)


def test_why_a_training_ended_is_said() -> None:
    epochs = (EpochInfo(loss=1.0, seconds=2.0),)
    found = training.facts(TrainingInfo(epochs=epochs, ended="time"))
    assert found == {
        "epochs": "1",
        "seconds of training": "2",
        "ended because": "the given minutes were over",
    }


def test_what_validation_chose_is_listed_with_its_figures(info: ModelInfo) -> None:
    info = info.vary(config={**info.config, "chosen": CHOSEN})
    found = {choice.what: choice for choice in training.choices(info, True)}
    least_squares = found["Settings of the least-squares part"]
    assert least_squares.taken == "128 dimensions, recency 0.75, next items not fitted"
    assert least_squares.why == "0.2600, the best of 2 trials; the first had 0.2100"
    assert found["Times between events"].taken == "not read"
    assert found["Declared columns"].taken == "events read"
    assert found["Declared columns"].why == "none 0.2000, items 0.1000, events 0.3000"
    weight = found["Weight of the least-squares part beside the towers"]
    assert (weight.taken, weight.why) == ("2.8", "0.2800; the towers alone 0.1200")
    assert found["Second stage"].taken == "re-ranks by default"
    assert training.weight_curve(info) == {0.5: 0.2, 2.828: 0.28}


def test_a_bundle_of_which_nothing_was_chosen_lists_nothing(info: ModelInfo) -> None:
    info = info.vary(config={})
    assert training.choices(info, None) == []
    assert training.weight_curve(info) == {}
