"""Printed tables: from summary rows to Markdown, TeX and the cells of the page."""
