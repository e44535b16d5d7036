"""Images of a folder that are more than files of RGB: channels, slices of volumes, guides beside them."""
