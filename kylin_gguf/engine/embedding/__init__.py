"""Texts to vectors: what a worker does whose model embeds instead of generating."""
