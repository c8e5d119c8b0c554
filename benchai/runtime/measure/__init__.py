"""Measurements of models on this machine: engines started for them, requests, samples and what follows from them."""
