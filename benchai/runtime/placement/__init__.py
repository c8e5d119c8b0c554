"""Where models live, and what the fleet would run."""
