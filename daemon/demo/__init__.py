"""The main job on real radiographs, on one machine, in a minute."""
