"""Which models a machine can serve: a catalogue, the seed's rules, and what fits."""
