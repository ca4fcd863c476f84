"""One file a source; each reads scenes or labels onto the tile grid."""
