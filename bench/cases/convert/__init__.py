"""What the converter takes, and how good what it makes is, beside llama.cpp's own tools and other text."""
