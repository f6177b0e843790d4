"""The kubelet endpoint: what an API server, or a person with the right, asks a node for."""
