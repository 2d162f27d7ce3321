"""Reference benchmark for neural-network pruning."""

__version__ = "0.1.0"
