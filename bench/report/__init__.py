"""Reports: tables and figures made from trial records."""
