"""Who calls and who decides: agents, people, their credentials, and how they stand."""
