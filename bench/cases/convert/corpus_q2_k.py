"""How good Q2_K is with the shipped corpus, beside other text."""

from __future__ import annotations

from bench.corpus import corpus_case

CASE = corpus_case("Q2_K")
