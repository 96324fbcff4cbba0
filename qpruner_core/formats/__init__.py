"""What a run can hand out: a format is declared in ``declarations.py``, and written, read and described by one file."""
