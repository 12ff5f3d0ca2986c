"""A long run: thousands of images, and what the daemon holds meanwhile."""
