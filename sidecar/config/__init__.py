"""sidecar.yaml, AEGIS_* and flags, merged with their origins into one validated Config."""
