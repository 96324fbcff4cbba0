"""Who changed what, apart from what was changed: entries stay when a job, a dataset or a key goes."""
