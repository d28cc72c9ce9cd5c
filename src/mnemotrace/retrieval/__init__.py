"""How memories are recalled: dynamics that run to rest, samplers that follow a denoiser."""
