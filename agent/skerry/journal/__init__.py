"""The journal: what this device was asked to run, what it said of it, and what it decided. Spine of everything."""
