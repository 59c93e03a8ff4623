"""The control listener (metrics, health) and control.sock for the command line."""
