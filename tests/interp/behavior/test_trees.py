import numpy as np

from interp.behavior.trees import Leaf, plant


def mass(trees, log_p):
    """Probability of every leaf, by walking the arrays with log_p(prefix, token); `above` must spell each prefix."""
    found = {}
    for tree in trees:
        prefixes = [()]
        for i in range(tree.n_nodes):
            on_path = np.flatnonzero(tree.above[i])
            assert list(tree.depths[on_path]) == list(range(1, tree.depths[i] + 1))
            prefixes.append(tuple(int(t) for t in tree.tokens[on_path]))
        edges = [log_p(prefixes[s], int(t)) for s, t in zip(tree.edge_slots, tree.edge_tokens, strict=True)]
        for k, leaf_edges in enumerate(tree.leaf_edges):
            mine = [e for e in leaf_edges if e < len(edges)]
            path = tuple(int(tree.edge_tokens[e]) for e in mine)
            ends = [
                log_p(prefixes[s], int(t))
                for j, s, t in zip(tree.end_leaves, tree.end_slots, tree.end_tokens, strict=True)
                if j == k
            ]
            assert tree.leaf_open[k] == (not ends)
            assert (path, int(tree.leaf_groups[k])) not in found
            found[path, int(tree.leaf_groups[k])] = np.exp(sum(edges[e] for e in mine)) * (
                np.exp(ends).sum() if ends else 1
            )
    return found


def log_p(prefix, token):
    return -0.1 * token - 0.01 * len(prefix) - 0.001 * sum(prefix)


def test_leaves_keep_their_probability_however_the_tree_is_cut():
    rng = np.random.default_rng(0)
    paths = {tuple(int(t) for t in rng.integers(5, 9, rng.integers(1, 5))) for _ in range(60)}
    leaves = tuple(Leaf(path, len(path) % 3, (1, 2)) for path in paths)
    expected = {
        (leaf.path, leaf.group): np.exp(sum(log_p(leaf.path[:i], t) for i, t in enumerate(leaf.path)))
        * sum(np.exp(log_p(leaf.path, end)) for end in leaf.ends)
        for leaf in leaves
    }
    for max_nodes in (1, 10, 40, 1000):
        trees = plant(leaves, max_nodes)
        found = mass(trees, log_p)
        assert found.keys() == expected.keys()
        np.testing.assert_allclose([found[k] for k in expected], list(expected.values()), rtol=1e-12)
    assert len(plant(leaves, 1000)) == 1
    assert max(tree.n_nodes for tree in plant(leaves, 40)) <= 41


def test_shared_beginnings_are_nodes_once_and_unread_tokens_are_none():
    open_leaves = (Leaf((5, 6, 7), 0), Leaf((5, 6, 8), 1), Leaf((9,), 1))
    (tree,) = plant(open_leaves, 100)
    assert tree.tokens.tolist() == [5, 6]  # 7, 8 and 9 are only looked up
    assert len(tree.edge_tokens) == 5
    (tree,) = plant(tuple(Leaf(x.path, x.group, (1,)) for x in open_leaves), 100)
    assert sorted(tree.tokens.tolist()) == [5, 6, 7, 8, 9]


def test_an_end_that_goes_on_to_another_answer_is_none():
    leaves = (Leaf((5,), 0, (1, 2)), Leaf((5, 2, 6), 1, (1, 2)))
    (tree,) = plant(leaves, 100)
    assert sorted(zip(tree.end_leaves.tolist(), tree.end_tokens.tolist(), strict=True)) == [(0, 1), (1, 1), (1, 2)]
    # with nothing else to end it, the shorter answer has no text left
    (tree,) = plant((Leaf((5,), 0, (2,)), Leaf((5, 2, 6), 1, (1,))), 100)
    assert tree.leaf_groups.tolist() == [1]
