"""Depth pruning: which blocks a model can do without, the model without them, and what that costs.

After Men et al. 2024 (ShortGPT, arXiv 2403.03853) and Gromov et al. 2024 (arXiv 2403.17887); docs/pruning.md
has what was measured of both.
"""

from kylin_convert.pruning.cost import Cost
from kylin_convert.pruning.step import DEFAULT_LIMIT, LIMIT_OPTION, OPTION, Pruning, check_source, prune

__all__ = ["DEFAULT_LIMIT", "LIMIT_OPTION", "OPTION", "Cost", "Pruning", "check_source", "prune"]
