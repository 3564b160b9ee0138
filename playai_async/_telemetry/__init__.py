"""What a session reports: log records and OpenTelemetry."""
