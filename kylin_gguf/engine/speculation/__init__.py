"""Guesses at the next tokens, checked in one decode: where several tokens cost less together than apart."""
