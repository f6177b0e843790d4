"""skerry: an edge agent that runs Kubernetes pods and goes on while the network is away."""

__version__ = "0.1.0"
