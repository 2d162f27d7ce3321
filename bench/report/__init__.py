"""Reports: tables, figures and the page, from the records of finished trials alone.

`load.py` reads records into a table with the columns of `columns.py`, `summary.py` and `statistics.py`
make rows over seeds, `tables/` and `figures/` lay them out, `write.py` writes everything.

May import: data, errors, store.
Open first: write.py
"""
