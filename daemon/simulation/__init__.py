"""What the reading list would do to the waiting of studies: traffic, readers and operating points, replayed."""
