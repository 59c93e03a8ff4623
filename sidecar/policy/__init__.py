"""The PDP: YAML documents become an indexed PolicySet; decide is pure. No I/O, no asyncio."""
