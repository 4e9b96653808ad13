"""Thin command line interface to the other folders."""
