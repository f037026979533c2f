"""Tokens out of models: a worker process per model, and the parent's handle on it."""
