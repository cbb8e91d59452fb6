"""The networks, their views of an image and what is read from their maps. Knows no cluster, store or loss."""
