//! Names the reason of a refusal.
//!
//! Runs only after verification failed and never turns a refusal into anything else. It goes from
//! the root to the leaf, so that the first broken link is the one that is named.

use heirloom_model::digest::sha256;

use crate::dcap::{self, NotVerified, Standing};
use crate::endorse::Collateral;
use crate::error::AppraiseError;
use crate::pki::Certificate;
use crate::quote::Quote;

/// Why the library did not verify a quote.
pub(crate) fn reason(
    failure: NotVerified,
    quote: &Quote<'_>,
    anchor: &Certificate,
    chain: &[Certificate],
    collateral: &Collateral,
) -> AppraiseError {
    let other = AppraiseError::NotVerified { detail: failure.0 };
    let [leaf, intermediate, ..] = chain else { return other };
    if !anchor.signed_certificate(intermediate) {
        return AppraiseError::UnknownAnchor;
    }
    if !intermediate.signed_certificate(leaf) {
        return AppraiseError::MalformedCertificate {
            fault: "the intermediate did not sign the platform's certificate",
        };
    }
    let of_root = [intermediate, &collateral.tcb_signer];
    if of_root.into_iter().any(|found| collateral.root_crl.names(found))
        || collateral.pck_crl.names(leaf)
    {
        return AppraiseError::CertificateRevoked;
    }
    if !leaf.signed_bytes(quote.qe_report.bytes(), quote.qe_signature) {
        return AppraiseError::QuotingEnclaveSignature;
    }
    let bound = sha256(&[quote.attestation_key, quote.authentication]);
    if !quote.qe_report.report_data().as_bytes().starts_with(&bound) {
        return AppraiseError::QuotingEnclaveKey;
    }
    if let Err(error) = quote.verify_signature() {
        return error;
    }
    match dcap::standing(quote, &leaf.der, &collateral.content) {
        Some(Standing::ForeignQuotingEnclave) => AppraiseError::QuotingEnclaveIdentity,
        Some(Standing::ForeignModule) => AppraiseError::ForeignModule,
        Some(Standing::NoLevel) => AppraiseError::NoTcbLevel,
        Some(Standing::Revoked) => AppraiseError::RevokedTcb,
        Some(Standing::Good) | None => other,
    }
}
