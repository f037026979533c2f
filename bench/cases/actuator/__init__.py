"""From words to commands."""
