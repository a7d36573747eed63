import numpy as np
import pytest
import torch
from torch import Tensor

from twotower.data import Histories, Queries
from twotower.models.base import Batch
from twotower.models.graph import BipartiteGraph
from twotower.models.lightgcn import LightGCN, LightGCNConfig

# User 3 has nothing, item 5 has nobody, user 2 bought item 4 three times.
TRAIN = Histories.from_lists([[0, 1, 2], [1, 3], [4, 4, 4, 0], []])
USERS, ITEMS, DIM = 4, 6, 5


def dense(train: Histories = TRAIN) -> Tensor:
    """D^-1/2 A D^-1/2 of the user-item graph, written out, in double precision."""
    adjacency = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    for user in range(USERS):
        for item in train.row(user):
            adjacency[user, USERS + item] = adjacency[USERS + item, user] = 1
    degrees = adjacency.sum(1)
    scale = torch.where(degrees > 0, degrees.clamp(min=1) ** -0.5, 0)
    return scale[:, None] * adjacency * scale


def dense_mean(nodes: Tensor, layers: int) -> Tensor:
    outputs = [nodes]
    for _ in range(layers):
        outputs.append(dense() @ outputs[-1])
    return torch.stack(outputs).mean(0)


def nodes() -> Tensor:
    return torch.randn(USERS + ITEMS, DIM, generator=torch.Generator().manual_seed(1))


def module(train: Histories = TRAIN) -> LightGCN:
    torch.manual_seed(0)
    return LightGCN(LightGCNConfig(embedding_dim=DIM, init_std=1.0), train, ITEMS)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_propagation_is_the_mean_of_dense_layers(layers: int) -> None:
    graph = BipartiteGraph.fit(TRAIN, ITEMS)
    found = graph.propagate(nodes(), layers)
    torch.testing.assert_close(found, dense_mean(nodes().double(), layers).float())


def test_one_layer_is_one_dense_product() -> None:
    found = BipartiteGraph.fit(TRAIN, ITEMS).multiply(nodes())
    torch.testing.assert_close(found, (dense() @ nodes().double()).float())


def test_the_gradient_is_that_of_the_dense_layers() -> None:
    graph = BipartiteGraph.fit(TRAIN, ITEMS)
    weights = torch.randn(USERS + ITEMS, DIM, generator=torch.Generator().manual_seed(2))
    sparse_nodes = nodes().requires_grad_()
    dense_nodes = nodes().double().requires_grad_()
    (graph.propagate(sparse_nodes, 3).square() * weights).sum().backward()
    (dense_mean(dense_nodes, 3).square() * weights.double()).sum().backward()
    torch.testing.assert_close(sparse_nodes.grad, dense_nodes.grad.float())


def test_a_gradient_that_is_not_contiguous_is_taken() -> None:
    graph = BipartiteGraph.fit(TRAIN, ITEMS)
    given = nodes().requires_grad_()
    graph.propagate(given, 3).sum().backward()  # an expanded scalar
    expected = dense_mean(torch.ones(USERS + ITEMS, DIM, dtype=torch.float64), 3)
    torch.testing.assert_close(given.grad, expected.float())


def test_repeats_weigh_once() -> None:
    once = BipartiteGraph.fit(Histories.from_lists([[0, 1, 2], [1, 3], [4, 0], []]), ITEMS)
    repeated = BipartiteGraph.fit(TRAIN, ITEMS)
    for name in ("indptr", "indices", "weights"):
        assert torch.equal(getattr(once, name), getattr(repeated, name))


def test_the_graph_is_no_part_of_the_weights() -> None:
    assert list(module().state_dict()) == ["node_embedding.weight"]


def test_with_the_training_history_folding_in_gives_the_trained_vector() -> None:
    model = module()
    propagated = dense_mean(model.node_embedding.weight.detach().double(), 3).numpy()
    scorer = model.scorer()
    known = Queries(np.arange(USERS, dtype=np.int32), TRAIN)
    propagated[3] = 0  # without an edge it has nothing but its random start
    np.testing.assert_allclose(scorer.user_vectors(known), propagated[:USERS], atol=1e-5)
    items = propagated[USERS:]
    items[5] = 0
    np.testing.assert_allclose(scorer.item_vectors(), items, atol=1e-5)
    np.testing.assert_allclose(
        scorer.scores(known), propagated[:USERS] @ propagated[USERS:].T, atol=1e-4
    )


def test_an_unknown_user_is_the_same_sum_without_the_id() -> None:
    model = module()
    scorer = model.scorer()
    known = scorer.user_vectors(Queries(np.arange(USERS, dtype=np.int32), TRAIN))
    unknown = scorer.user_vectors(Queries.anonymous(TRAIN))
    ids = model.node_embedding.weight.detach().numpy()[:USERS] / 4  # layer 0 of 0 … 3
    ids = ids * (TRAIN.lengths > 0)[:, None]
    np.testing.assert_allclose(unknown, known - ids, atol=1e-5)


def test_an_empty_history_leaves_the_id_or_nothing() -> None:
    model = module()
    empty = Histories.from_lists([[], []])
    vectors = model.scorer().user_vectors(Queries(np.array([1, -1], np.int32), empty))
    own = model.node_embedding.weight.detach().numpy()[1] / 4
    np.testing.assert_allclose(vectors, [own, np.zeros(DIM)], atol=1e-6)


def test_a_query_history_counts_a_repeat_once() -> None:
    scorer = module().scorer()
    repeated, once = (
        scorer.user_vectors(Queries.anonymous(Histories.from_lists([items])))
        for items in ([2, 1, 2, 2], [2, 1])
    )
    np.testing.assert_allclose(repeated, once, rtol=1e-5)


def test_forward_reads_the_propagated_rows_and_penalises_the_table() -> None:
    model = module()
    users, positives, negatives = (
        torch.tensor([0, 2]),
        torch.tensor([1, 4]),
        torch.tensor([[3], [5]]),
    )
    none = torch.zeros(2, 0)
    found = model(Batch(users, positives, torch.zeros(2), negatives, none, torch.zeros(2), none))
    table = model.node_embedding.weight.detach()
    propagated = dense_mean(table.double(), 3).float()
    torch.testing.assert_close(found.query.detach(), propagated[users])
    torch.testing.assert_close(found.positive.detach(), propagated[USERS + positives])
    torch.testing.assert_close(found.negative.detach(), propagated[USERS + negatives])
    looked_up = table[[0, 2, USERS + 1, USERS + 4, USERS + 3, USERS + 5]]
    torch.testing.assert_close(found.squared_norm.detach(), looked_up.square().sum() / (2 * 2))


def test_an_item_without_an_edge_scores_zero() -> None:
    scorer = module().scorer()
    queries = Queries(np.array([0, -1], np.int32), Histories.from_lists([[0], [1]]))
    np.testing.assert_array_equal(scorer.scores(queries)[:, 5], 0)
    assert (scorer.scores(queries)[:, :5] != 0).all()
