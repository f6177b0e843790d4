"""The simulator: the real agent and the real hub in virtual time, over seams that fail on cue (docs/simulator.md)."""
