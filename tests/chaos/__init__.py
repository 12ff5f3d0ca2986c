"""The chaos run: the whole daemon, a modality and a PACS, and SIGKILL again and again. See docs/how-to/chaos.md."""
