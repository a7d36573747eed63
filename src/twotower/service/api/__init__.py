"""HTTP API of the service. Needs the extra ``serve``."""
