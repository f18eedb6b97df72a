//! What services state, and what operators say about changing them.

use heirloom_model::envelope::Envelope;

use super::Change;
use crate::network::NetworkState;
use crate::refusal::Refusal;

/// Terms whose rehearsals one network remembers.
pub(crate) const TERMS_KEPT_MAX: usize = 1_024;

pub(crate) fn examine_standing(
    _state: &mut NetworkState,
    _envelope: &Envelope,
) -> Result<Change, Refusal> {
    Err(Refusal::EvidenceMissing)
}

pub(crate) fn examine_rehearsal(
    _state: &NetworkState,
    _envelope: &Envelope,
) -> Result<Change, Refusal> {
    Err(Refusal::EvidenceMissing)
}

pub(crate) fn examine_revocation(
    _state: &NetworkState,
    _envelope: &Envelope,
) -> Result<Change, Refusal> {
    Err(Refusal::EvidenceMissing)
}
