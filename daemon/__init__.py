"""The service: receive, infer, report, deliver, and show the reading list."""
