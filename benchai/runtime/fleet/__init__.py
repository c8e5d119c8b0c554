"""The processes of the fleet and the leases on them."""
