"""Metrics as plain numbers, rendered at scrape; JSON logs."""
