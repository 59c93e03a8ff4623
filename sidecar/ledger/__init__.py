"""Receipts: canonical form, chain, tree, recorder, offline verification."""
