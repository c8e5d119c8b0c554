"""Runs as OpenTelemetry traces: into a file, to an OTLP endpoint, or not at all, which is the default."""
