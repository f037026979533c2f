"""Which layer of a model goes where, and why."""
