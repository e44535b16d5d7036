"""`weakseg crf-search`: parameters of a dense CRF that refines predictions."""
