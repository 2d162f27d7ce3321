"""Files: specifications and ids, the results folder, the cache of phases, hashes of source code.

Everything that is written appears whole, by an atomic rename. `trial_identity.py` says what makes two
trials the same, `results.py` reads and seals records, `phase_cache.py` keeps work that is done once.

May import: choices, errors.
Open first: trial_identity.py
"""
