//! An emulated CPU with the semantics of SGX: measured launch, sealing, reports, and quotes in the DCAP format under a development root.
