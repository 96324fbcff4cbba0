"""Schema migrations (Alembic), shipped as package data and run by :mod:`app.migrate`."""
