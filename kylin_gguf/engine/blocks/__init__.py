"""How much each block of a model changes what passes through it; a program of its own, for the converter.

``python -m kylin_gguf.engine.blocks``: what fails in llama.cpp, a C++ exception too, ends that process only.
"""
