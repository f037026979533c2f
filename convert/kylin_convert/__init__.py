"""The converter: a Hugging Face folder or a GGUF in, a small verified GGUF with its manifest out."""
