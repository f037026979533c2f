"""What a worker inherits of the service's environment: what its libraries read, and nothing else.

Tokens, proxies, agent sockets and the address of the bus stay with the service. A worker has no use for them,
and it is the process that parses other people's files. One that asks a server gets the way to the network,
and that server's token if the environment has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kylin_gguf.config import ENV_PREFIX

_NAMES = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
        # Settings, the drivers' shader caches, and where Vulkan looks for drivers.
        *("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS", "XDG_CACHE_HOME"),
        *("XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
        # A driver or a CUDA toolkit outside the system's directories; which GPU is the first one.
        *("LD_LIBRARY_PATH", "DRI_PRIME"),
        # The worker's modules must be the service's modules.
        *(
            "PYTHONHOME",
            "PYTHONNOUSERSITE",
            "PYTHONUSERBASE",
            "PYTHONPYCACHEPREFIX",
            "PYTHONDONTWRITEBYTECODE",
        ),
    }
)
_PREFIXES = (
    ENV_PREFIX,
    "LC_",
    *("GGML_", "LLAMA_"),
    *("OMP_", "GOMP_", "KMP_", "OPENBLAS_"),
    *("CUDA_", "NVIDIA_"),
    *("VK_", "MESA_", "RADV_", "ANV_", "AMD_"),
    *("HIP_", "HSA_", "ROCR_", "ROCM_", "ROCBLAS_", "HIPBLASLT_"),
    *("ONEAPI_", "SYCL_", "UR_", "ZE_", "ZES_"),
)

_NETWORK = frozenset(
    {
        "https_proxy",
        "HTTPS_PROXY",
        "no_proxy",
        "NO_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    }
)


def for_worker(environ: Mapping[str, str], native_dirs: Sequence[Path]) -> dict[str, str]:
    """Return the part of ``environ`` that a worker gets. It runs in ``/``, so paths in it become absolute."""
    kept = {name: value for name, value in environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    kept |= _module_path(environ)
    kept[f"{ENV_PREFIX}NATIVE_DIRS"] = os.pathsep.join(str(path.absolute()) for path in native_dirs)
    # An aborting worker would fork a debugger (ggml_print_backtrace), whose pages of frames hide the message.
    kept.setdefault("GGML_NO_BACKTRACE", "1")
    # glibc 2.35 and newer then ask for huge pages (madvise(2), MADV_HUGEPAGE) where a large block is
    # allocated. A token walks through all repacked weights and the KV cache: small pages cost 2 to 4 %.
    kept["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    return kept


def for_remote(environ: Mapping[str, str], token_env: str) -> dict[str, str]:
    """Return the part of ``environ`` that a worker gets which asks a server, with its token if that is in the
    variable ``token_env``."""
    names = _NAMES | _NETWORK | {token_env}
    kept = {name: value for name, value in environ.items() if name in names or name.startswith("LC_")}
    return kept | _module_path(environ)


def _module_path(environ: Mapping[str, str]) -> dict[str, str]:
    # An empty entry would mean the current directory, which must not supply modules.
    modules = [os.path.abspath(path) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {"PYTHONPATH": os.pathsep.join(modules)} if modules else {}
