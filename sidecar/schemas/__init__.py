"""JSON Schemas of the files a user writes, for editors; tests keep them equal to the loaders."""
