"""Files: specifications and ids, records, the results folder, the cache of phases, hashes of source code.

Everything that is written appears whole: flushed, then renamed. `trial_identity.py` says what makes two
trials the same, `records.py` and `phase_records.py` the fields of every file and how it is read and
sealed, `results.py` where the files stand, `phase_cache.py` keeps work that is done once, `locks.py`
holds other processes off. `tensor_files.py` looks at files of strangers before they are opened,
`inspection.py` at a whole results folder for what is wrong with it. `schema.py` writes
`docs/schema/`. `syntax_hash.py`, `source_files.py` and `source_hash.py` say what counts of code,
`source_copies.py` keeps that of users.

May import: choices, errors, regular_file, system_errors.
Open first: trial_identity.py
"""
