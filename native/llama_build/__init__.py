"""The steps behind ``native/build.py``, from the pinned archive to installed libraries."""
