//! Appraises evidence against endorsements and an appraisal policy, and returns an attestation result or the reason why not.
