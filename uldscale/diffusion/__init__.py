"""Diffusion features: a frozen latent diffusion model, noise, decoder taps, and the codec for storage."""
