"""Measures bundles on a folder with a manifest.csv: predictions, then figures of them, then tables and a report."""
