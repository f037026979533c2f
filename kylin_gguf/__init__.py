"""Local large language models as a native part of the openKylin desktop."""

__version__ = "0.1.0"
