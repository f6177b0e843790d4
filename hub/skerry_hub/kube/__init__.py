"""A client of any Kubernetes API, and what the hub keeps of it: informers. Knows nothing of devices."""
