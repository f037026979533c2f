"""Utterance to command: a closed set of commands, ranked by examples and a model, valid by construction."""
