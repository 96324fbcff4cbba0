"""Rivals in environments of their own; the scripts beside this file run there, without our packages."""
