"""Storage: database, ledger, queue, uploads, accounts."""
