"""The reading list as other systems see it."""
