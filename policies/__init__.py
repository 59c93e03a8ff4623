"""Policy packs that operators read, copy and edit. Data only: no engine code."""
