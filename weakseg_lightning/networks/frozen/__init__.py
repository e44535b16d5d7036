"""A head on the maps of an encoder that does not learn, fitted in seconds."""
