"""What one would use instead of fastcifar, each at its best settings; fastcifar needs none of them."""
