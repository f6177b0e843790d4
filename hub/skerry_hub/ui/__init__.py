"""One read-only page of the fleet, fed by watches of the Kubernetes API."""
