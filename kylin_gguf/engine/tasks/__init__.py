"""What a worker can be asked to do once a prompt is in the KV cache."""
