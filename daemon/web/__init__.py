"""What watches the service over HTTP: health and metrics."""
