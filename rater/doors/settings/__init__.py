"""What a process is told: `RATER_*` variables and a TOML file, the variables winning; every value checked, with a sentence.

`values` reads one value, `secret` a secret, `reading` gathers all of a command's, `connection` says how the brokers are reached, `agent` what
every agent is told. A door adds its own keys.
"""
