"""Large rasters that lie on a map: training in tiles where labels are, drawn in GeoJSON or stored as a raster."""
