"""One file per published data set."""
