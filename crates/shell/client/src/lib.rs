//! The client library: an attested application gets keys from attested holders.
