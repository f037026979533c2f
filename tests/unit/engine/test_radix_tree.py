"""The radix tree against a plain list of token sequences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kylin_gguf.engine.radix_tree import RadixTree, common_prefix

tokens = st.lists(st.integers(0, 2), max_size=10)
moves = st.lists(st.tuples(st.booleans(), st.integers(0, 6), tokens), max_size=40)


@given(moves, tokens)
def test_it_answers_like_a_search_through_all_entries(
    changes: list[tuple[bool, int, list[int]]], prompt: list[int]
) -> None:
    tree: RadixTree[int] = RadixTree()
    plain: dict[int, list[int]] = {}
    for add, key, entry in changes:
        if add:
            tree.insert(key, entry)
            plain[key] = entry
        else:
            tree.remove(key)
            plain.pop(key, None)
    assert len(tree) == len(plain) and all(tree.tokens(key) == plain[key] for key in plain)

    shared = {key: common_prefix(entry, prompt) for key, entry in plain.items()}
    best = max(shared.values(), default=0)
    keys, length = tree.match(prompt)
    assert length == best
    assert keys == ({key for key in plain if shared[key] == best} if best else frozenset())

    whole = {key: len(entry) for key, entry in plain.items() if entry and shared[key] == len(entry)}
    longest = max(whole.values(), default=0)
    assert tree.match_whole(prompt) == ({k for k, v in whole.items() if v == longest}, longest)

    for key, entry in plain.items():
        others = [common_prefix(other, entry) for k, other in plain.items() if k != key]
        assert tree.own(key) == len(entry) - max(others, default=0)
