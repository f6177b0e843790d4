"""Frozen values that travel between the parts. Nothing here touches the world or decides anything."""
