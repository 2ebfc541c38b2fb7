//! The folders of SAELens: `cfg.json` and `sae_weights.safetensors`.
