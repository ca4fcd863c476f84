"""What is kept: database, ledger, queue, uploads, accounts."""
