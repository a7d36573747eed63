import numpy as np
import torch

from twotower.data import Histories, Queries
from twotower.models.base import Batch
from twotower.models.mf import MatrixFactorisation, MFConfig

USERS, ITEMS, DIM = 4, 6, 3
TRAIN = Histories.from_lists([[0, 1], [2, 3], [4, 5], []])


def module(train: Histories = TRAIN) -> MatrixFactorisation:
    torch.manual_seed(0)
    return MatrixFactorisation(MFConfig(embedding_dim=DIM), train, ITEMS)


def test_an_item_that_training_never_saw_scores_zero_and_says_nothing() -> None:
    scorer = module(Histories.from_lists([[0, 1], [2, 3], [4], []])).scorer()
    queries = Queries(np.array([2, -1, -1], np.int32), Histories.from_lists([[], [5], [1, 3]]))
    np.testing.assert_array_equal(scorer.scores(queries)[:, 5], 0)
    np.testing.assert_array_equal(scorer.user_vectors(queries)[1], 0)
    assert (scorer.scores(queries)[0, :5] != 0).all()


def test_a_known_user_scores_by_dot_products_whatever_the_history() -> None:
    model = module()
    p, q = model.user_embedding.weight.detach(), model.item_embedding.weight.detach()
    queries = Queries(np.array([2, 0], np.int32), Histories.from_lists([[1, 2], []]))
    scores = model.scorer().scores(queries)
    np.testing.assert_allclose(scores, (p @ q.T)[[2, 0]].numpy(), rtol=1e-5)


def test_an_unknown_user_is_the_mean_of_the_centred_items() -> None:
    model = module()
    items = model.item_embedding.weight.detach().numpy()
    queries = Queries.anonymous(Histories.from_lists([[1, 4], [], [3]]))
    vectors = model.scorer().user_vectors(queries)
    centred = items - items.mean(axis=0)
    expected = [centred[[1, 4]].mean(axis=0), np.zeros(DIM), centred[3]]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_known_and_unknown_users_mix_in_one_batch() -> None:
    scorer = module().scorer()
    histories = Histories.from_lists([[1], [2, 3], [0]])
    mixed = scorer.scores(Queries(np.array([3, -1, 1], np.int32), histories))
    for row, user in enumerate((3, -1, 1)):
        one = Queries(np.array([user], np.int32), histories.select(np.array([row])))
        np.testing.assert_allclose(mixed[row], scorer.scores(one)[0], rtol=1e-6)


def test_a_scorer_is_a_snapshot() -> None:
    model = module()
    scorer = model.scorer()
    queries = Queries(np.array([0], np.int32), Histories.from_lists([[]]))
    before = scorer.scores(queries)
    with torch.no_grad():
        model.user_embedding.weight.zero_()
        model.item_embedding.weight.zero_()
    np.testing.assert_array_equal(scorer.scores(queries), before)


def test_forward_looks_up_rows_and_their_penalty() -> None:
    model = module()
    p, q = model.user_embedding.weight, model.item_embedding.weight
    users, positives = torch.tensor([1, 3]), torch.tensor([0, 5])
    negatives = torch.tensor([[2, 4], [1, 1]])
    none = torch.zeros(2, 0)
    batch = Batch(users, positives, torch.zeros(2), negatives, none, torch.zeros(2), none)
    found = model(batch)
    assert torch.equal(found.query, p[users])
    assert torch.equal(found.positive, q[positives])
    assert torch.equal(found.negative, q[negatives])
    rows = torch.cat([p[users], q[positives], q[negatives].flatten(0, 1)])
    torch.testing.assert_close(found.squared_norm, rows.square().sum() / (2 * 2))
