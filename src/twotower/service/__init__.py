"""The service: state database, HTTP API, client and the source of the next training."""
