"""API objects → Target, Report → status: decided in `target` and `status`, done by the rest."""
