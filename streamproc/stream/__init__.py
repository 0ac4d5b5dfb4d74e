"""Trigger 1, records: the files are the stages a record passes, `pipeline.py` puts them in order."""
