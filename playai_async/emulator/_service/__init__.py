"""The service without the network: what it answers to a request, by the contract alone."""
