"""Aquiline: rock-solid dry-runs and back-outs for fleets of Linux hosts."""

__version__ = "0.1.0"
