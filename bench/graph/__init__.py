"""The structure of any network: traced, followed channel by channel, counted and cut.

A network's forward is traced into a graph; `operations.py` says what each operation does to channels,
`dependency.py` follows them, `structure.py` holds what comes out: layers, sites, couplings. `count.py`
counts what masks leave, `cut.py` removes it, `verify.py` proves the smaller network.

May import: errors, seeds.
Open first: trace.py
"""
