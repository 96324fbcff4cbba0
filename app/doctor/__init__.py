"""Checks of every part of an installation, for an operator at a terminal."""
