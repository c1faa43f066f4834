"""Rules over lists: quotas, caps, diversity and pins on exact candidates."""
