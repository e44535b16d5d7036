"""PASCAL VOC 2012 with SBD and the scribbles of ScribbleSup."""
