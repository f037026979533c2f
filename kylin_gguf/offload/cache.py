"""What a context remembers of the tokens before: keys and values, or a recurrent state, layer by layer.

As the pinned llama.cpp allocates it (``llama_kv_cache``, ``llama_memory_recurrent``) with the engine's
parameters: one cache for all sequences, sliding windows at full length (``swa_full``), a recurrent state for
every sequence. Widths are taken from the tensors, which know about grouped queries and about layers that
differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from kylin_gguf.gguf_info import GgufInfo
from kylin_gguf.records import KvType

_CELLS = 256
"""llama.cpp rounds the context up to whole multiples (GGML_PAD in llama_context)."""
_VALUE_BYTES: dict[KvType, float] = {"f16": 2.0, "q8_0": 34 / 32}  # q8_0: 34 bytes for 32 values
_STATE_BYTES = 4  # recurrent states are float32
_RECURRENT = ("ssm_", "shortconv.", "time_mix_")
_TOKEN_SHIFTS = 2  # llama.cpp's default of ``token_shift_count``


@dataclass(frozen=True)
class Cache:
    """Bytes of memory a layer, for one number of cells and sequences; those of them that belong to one cell,
    which every later token reads; and how many attention masks a batch needs."""

    layers: tuple[int, ...]
    per_cell: tuple[float, ...]
    masks: int


def padded(context_length: int) -> int:
    """Return the cells of a cache for ``context_length`` tokens."""
    return -(-context_length // _CELLS) * _CELLS


def cache(info: GgufInfo, context_length: int, kv_type: KvType, sequences: int) -> Cache:
    """Return what each layer remembers. ``sequences`` counts the ids that a context has, spare ones too."""
    if not info.has_cache:
        return Cache((0,) * info.layers, (0.0,) * info.layers, 1)
    names = _names(info)
    widths = _key_value_widths(info, names)
    state = sum(_state_widths(info)) * _STATE_BYTES * max(sequences, 1)
    cells = padded(context_length)
    value = _VALUE_BYTES[kv_type]
    layers = tuple(
        int(width * cells * value) + (state if _is_recurrent(names[layer]) else 0)
        for layer, width in enumerate(widths)
    )
    masks = 2 if _count(info, "attention.sliding_window") else 1
    return Cache(layers, tuple(width * value for width in widths), masks)


def state_width(info: GgufInfo) -> int:
    """Return how many values a recurrent layer carries from token to token of one sequence; 0 for a model
    without such layers."""
    return _state_widths(info)[1] if any(map(_is_recurrent, _names(info))) else 0


def convolved_width(info: GgufInfo) -> int:
    """Return the width of what a recurrent layer convolves for each token; 0 where there is none."""
    return _count(info, "ssm.inner_size") + 2 * _count(info, "ssm.group_count") * _count(
        info, "ssm.state_size"
    )


def _names(info: GgufInfo) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of each layer's tensors by their names within the layer."""
    layers: list[dict[str, tuple[int, ...]]] = [{} for _ in range(info.layers)]
    for tensor in info.tensors:
        prefix, _, rest = tensor.name.partition(".")
        number, _, name = rest.partition(".")
        if prefix == "blk" and number.isdigit() and int(number) < info.layers:
            layers[int(number)][name] = tensor.shape
    return layers


def _is_recurrent(names: dict[str, tuple[int, ...]]) -> bool:
    return any(name.startswith(_RECURRENT) for name in names)


def _key_value_widths(info: GgufInfo, names: list[dict[str, tuple[int, ...]]]) -> list[int]:
    """Return how many values a token leaves in each layer's cache, keys and values together."""
    shared = _count(info, "attention.shared_kv_layers")
    latent = _count(info, "attention.key_length") if "attention.key_length_mla" in _own(info) else 0
    widths = []
    for layer, found in enumerate(names):
        own = layer < info.layers - shared
        widths.append(_width(info, layer, found, latent) if own else 0)
    return widths


def _width(info: GgufInfo, layer: int, found: dict[str, tuple[int, ...]], latent: int) -> int:
    if latent and "attn_kv_a_mqa.weight" in found:
        return latent
    key, value = found.get("attn_k.weight"), found.get("attn_v.weight")
    if key:
        return key[1] + (value or key)[1]
    if _is_recurrent(found) or not any(name.startswith("attn_") for name in found):
        return 0
    return _stated_width(info, layer)  # queries, keys and values in one tensor


def _stated_width(info: GgufInfo, layer: int) -> int:
    heads = info.head_count_kv or (info.head_count,)
    count = heads[layer] if layer < len(heads) and len(heads) == info.layers else heads[0]
    head = info.embedding_length // info.head_count if info.head_count else 0
    return count * sum(_count(info, f"attention.{part}_length") or head for part in ("key", "value"))


def _state_widths(info: GgufInfo) -> tuple[int, int]:
    """Return ``n_embd_r`` and ``n_embd_s`` of llama_hparams: the values that a convolution and a recurrence
    keep for one sequence in one layer."""
    width = info.embedding_length
    if head := _count(info, "wkv.head_size"):
        shifts = _count(info, "token_shift_count") or _TOKEN_SHIFTS
        return shifts * width, width * head
    if length := _count(info, "shortconv.l_cache"):
        return width * (length - 1), 0
    if head := _count(info, "kda.head_dim"):
        inner = info.head_count * head
        return 3 * max(_count(info, "ssm.conv_kernel") - 1, 0) * inner, head * inner
    kept = max(_count(info, "ssm.conv_kernel") - 1, 0)
    return kept * convolved_width(info), _count(info, "ssm.state_size") * _count(info, "ssm.inner_size")


def _own(info: GgufInfo) -> set[str]:
    prefix = f"{info.architecture}."
    return {key.removeprefix(prefix) for key in info.metadata if key.startswith(prefix)}


def _count(info: GgufInfo, key: str) -> int:
    value = info.own(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
