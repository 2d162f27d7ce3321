"""Pruning methods: one file per method."""
