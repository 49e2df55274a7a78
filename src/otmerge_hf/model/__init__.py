"""What travels to the Hub: configuration, modules, processor and pipeline, on torch and transformers alone."""
