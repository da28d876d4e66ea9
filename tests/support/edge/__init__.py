"""What tests of edge/ share."""
