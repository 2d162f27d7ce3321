"""The structure of any network: traced, followed channel by channel, counted and cut.

A network's forward is traced into a graph. `operations/` has one class for each kind of call in it: how
channels flow through it, and how it is written when some of them are gone. `dependency.py` asks every
call the first and `cut.py` the second; `structure.py` holds what comes out: layers, sites, couplings.
`count.py` counts what masks leave, `verify.py` proves that the smaller network computes the same.

May import: choices, errors, seeds.
Open first: trace.py
"""
