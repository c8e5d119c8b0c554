"""The search for faster settings of a model: trials on real engines, and a proof before any is recommended."""
