"""Command groups of ``lulcbench``; each module registers its commands on the app it is given."""
