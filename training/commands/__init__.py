"""The commands that the daemon's command line finds by entry point, one file each."""
