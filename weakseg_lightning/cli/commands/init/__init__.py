"""`weakseg init`: a recipe for a folder of images of your own."""
