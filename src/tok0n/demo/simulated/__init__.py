"""The endpoints of the simulated upstream. Each turns a request into a conversation and shapes the reply."""
