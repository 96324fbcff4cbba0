"""Checks of every part that an installation stands on, for an operator at a terminal."""
