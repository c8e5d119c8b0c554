"""The fleet of engines: launched, health-checked, stopped; and where its models live."""
