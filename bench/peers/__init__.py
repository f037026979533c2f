"""What we are measured against: llama.cpp's own tools of the same build, and the bindings' own class."""
