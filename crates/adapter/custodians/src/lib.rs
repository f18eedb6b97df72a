//! Key stores behind one port: an encrypted file, PKCS#11, AWS KMS, GCP KMS, Vault Transit.
