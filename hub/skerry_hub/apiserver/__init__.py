"""The embedded Kubernetes API server: `skerry-hub api`. Everything is reached through `serve.serve`."""
