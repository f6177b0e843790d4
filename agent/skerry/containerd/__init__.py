"""The Runtime seam over CRI v1 and containerd's event service. Imported only where containerd is the chosen runtime."""
