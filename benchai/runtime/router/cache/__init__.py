"""Replies that need no model: the same request again, requests at the same time, requests that mean the same."""
