"""Networks, their building blocks and what is measured of them."""
