"""Suites: TOML files that say which trials belong together."""
