//! Every custodian against the same suite.
