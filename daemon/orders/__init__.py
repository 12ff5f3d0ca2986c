"""What was ordered, as the RIS says it."""
