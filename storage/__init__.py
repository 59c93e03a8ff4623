"""Durable storage for the ledger: importable on its own, knows nothing of the sidecar."""
