"""Runs upstream's converters: ``upstream_driver.py LLAMA.CPP JOBS``.

JOBS is a JSON list of [folder, output, type, adapter]. The last is empty, or the folder of an adapter, which
is converted then, for the model in the first.

In a process of its own, because upstream brings its own gguf package. It is made to give the name "tiny" to a
pre-tokeniser it does not know instead of stopping; what it knows is left alone.
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from typing import Any


def main() -> None:
    """Convert all jobs as upstream's command line would."""
    source, jobs = sys.argv[1:]
    sys.path.insert(0, source)
    convert = importlib.import_module("convert_hf_to_gguf").main
    model = importlib.import_module("conversion.base").TextModel
    original = model.get_vocab_base_pre

    def name(self: Any, tokenizer: Any) -> str:
        try:
            return str(original(self, tokenizer))
        except NotImplementedError:
            return "tiny"

    model.get_vocab_base_pre = name
    for folder, output, form, adapter in json.loads(jobs):
        options = ["--outfile", output, "--outtype", form]
        if adapter:
            sys.argv = ["convert_lora_to_gguf.py", adapter, "--base", folder, *options]
            runpy.run_path(f"{source}/convert_lora_to_gguf.py", run_name="__main__")
        else:
            sys.argv = ["convert_hf_to_gguf.py", folder, *options]
            convert()


if __name__ == "__main__":
    main()
