"""The ledger of jobs: one method, one transaction, one transition."""
