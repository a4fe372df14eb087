"""The list-and-watch protocol of the Kubernetes API as a machine without I/O."""
