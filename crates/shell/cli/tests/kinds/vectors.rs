//! Where real evidence is, and the rules that are the same for all kinds.

use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};

/// The path of a shared vector, if this machine has it.
pub(crate) fn find(relative: &str) -> Option<String> {
    let found = heirloom_testkit::vectors::find(&format!("tee/{relative}"));
    if found.is_none() {
        eprintln!("skipped: the vector {relative} is not on this machine");
    }
    found.map(|path| path.canonicalize().unwrap().display().to_string())
}

/// The common rules of [`COMMON`].
pub(crate) fn policy() -> AppraisalPolicy {
    AppraisalPolicy {
        platforms: PlatformRule::Any,
        tcb: vec![TcbLevel::UpToDate],
        advisories_accepted: Vec::new(),
        tcb_evaluation_min: 1,
        collateral_grace_seconds: 0,
        tdx: None,
        snp: None,
        nitro: None,
        tpm: None,
        vtpm: None,
        tcb_grace: Vec::new(),
    }
}

/// What every file of rules begins with.
pub(crate) const COMMON: &str = "platforms = \"any\"\ntcb = [\"up-to-date\"]\n\
    advisories_accepted = []\ntcb_evaluation_min = 1\ntcb_grace = []\ncollateral_grace_seconds = 0\n";
