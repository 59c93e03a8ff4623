"""Sinks: one file for each kind, behind one seam (seam.py), in one list (registry.py)."""
