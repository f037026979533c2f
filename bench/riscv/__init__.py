"""RISC-V without a board: what a token costs each CPU variant, in instructions counted under qemu."""
