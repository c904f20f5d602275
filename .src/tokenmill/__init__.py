"""Raw web crawls in, training-ready token shards out, and a model trained from them."""
