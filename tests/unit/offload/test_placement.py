"""What a placement says of itself."""

from __future__ import annotations

from dataclasses import replace

from kylin_gguf.records import Placement, Share

ON_PROCESSOR = Placement(gpu_layers=0, context_length=1024, threads=2, layers=8)


def test_weights_are_in_memory_where_there_is_room_for_all_and_they_are_for_the_processor() -> None:
    assert ON_PROCESSOR.in_memory
    assert not replace(ON_PROCESSOR, mode="instant").in_memory, "the user wants them as they lie in the file"
    assert not replace(ON_PROCESSOR, fits=False).in_memory, "pages of the file can be dropped"
    assert not replace(ON_PROCESSOR, gpu_layers=4, shares=(Share("GPU0", 4, 1),)).in_memory
