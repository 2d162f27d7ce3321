"""Masks: what a network keeps, in which order the rest goes, and how masks act on a network.

`masks.py` holds the masks and drops by score, `ranking.py` orders scores. `hard_mask.py` and `gates.py`
enforce masks during a training: by zeros for good, or by factors that leave the weights alone.

May import: apportion, errors, graph.
Open first: masks.py
"""
