//! What a verified snapshot says of itself.
