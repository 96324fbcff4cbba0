"""Export formats: declared in ``declarations.py``; one file each writes, reads and describes a format."""
