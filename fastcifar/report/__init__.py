"""Pages, pictures and the README section made of finished runs."""
