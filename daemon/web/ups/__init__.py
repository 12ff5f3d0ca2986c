"""The Worklist Service over HTTP (UPS-RS, PS3.18 section 11)."""
