"""Judge a trace or an edit: criteria beside controls, calibration, depth."""
