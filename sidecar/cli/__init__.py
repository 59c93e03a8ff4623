"""The aegis-sidecar command: one file per sub-command."""
