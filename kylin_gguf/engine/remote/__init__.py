"""A worker that has no model of its own: it asks an OpenAI-compatible server. It needs no llama.cpp."""
