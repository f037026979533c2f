"""How fast and how steadily tokens come out of the engine, as its clients see it."""
