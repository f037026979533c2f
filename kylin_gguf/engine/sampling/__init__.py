"""From logits to a token: llama.cpp's samplers over the few candidates that can matter, and grammars."""

from kylin_gguf.engine.sampling.sampler import Sampler

__all__ = ["Sampler"]
