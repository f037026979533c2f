"""How good Q3_K_M is with the shipped corpus, beside other text."""

from __future__ import annotations

from bench.corpus import corpus_case

CASE = corpus_case("Q3_K_M")
