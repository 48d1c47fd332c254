"""What one would use instead of fastcifar's loaders, each as its own manual has it; fastcifar needs none of them."""
