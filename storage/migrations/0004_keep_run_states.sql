-- What an agent's run has gathered, beside its version: text of the ledger's, "" before the first.
ALTER TABLE run_head ADD COLUMN state TEXT NOT NULL DEFAULT '';
