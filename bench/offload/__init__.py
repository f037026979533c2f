"""The offload planner against the truth: what workers really use, and simulated machines."""
