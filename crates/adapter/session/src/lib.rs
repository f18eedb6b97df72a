//! Mutually attested TLS 1.3 sessions over any byte stream.
