"""Settings as data: TOML files only; `runners.config` reads them."""
