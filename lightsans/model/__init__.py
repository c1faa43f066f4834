"""The LightSANs network and its three kinds of attention."""
