"""What must survive a power cut: the inbox, the outbox and the ledger."""
