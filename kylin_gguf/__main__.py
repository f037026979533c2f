"""``python -m kylin_gguf`` is ``kylin-gguf``."""

from kylin_gguf.cli.app import main

if __name__ == "__main__":
    main()
