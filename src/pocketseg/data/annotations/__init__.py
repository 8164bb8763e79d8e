"""Annotations in files of their own (polygons, run lengths) as masks. The layouts that read them are in `layouts`."""
