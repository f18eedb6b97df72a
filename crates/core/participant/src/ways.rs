//! The four ways to other keys, which of them are possible here, and what each one loses.
//!
//! Canton documents them at different places and for different releases. Only the rewrite gives
//! up the old keys for good; every other way keeps something of them for ever.

use std::fmt;

use heirloom_model::participant::CustodianKind;
use heirloom_model::participant::{PartyKind, RemarkWeight};

use crate::custodian::assess::{self, Outcome};
use crate::custodian::key::{KeyScheme, KeyUsage};
use crate::preflight::rules::all_in_custodian;
use crate::preflight::{Ground, findings};

/// A way to other keys.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// The private keys are exported and imported into the custodian. Names stay.
    KeyExport,
    /// The old root key delegates to the new node's key. Names stay.
    Delegation,
    /// The database keeps the keys, encrypted with a key of the KMS. Names stay.
    Envelope,
    /// New keys, new names; contracts are rewritten.
    Rewrite,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::KeyExport, Self::Delegation, Self::Envelope, Self::Rewrite];

    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyExport => "key-export",
            Self::Delegation => "delegation",
            Self::Envelope => "envelope",
            Self::Rewrite => "rewrite",
        }
    }

    /// What it does, in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::KeyExport => {
                "export the private keys and import them into the custodian; names, contracts and \
                 history stay"
            }
            Self::Delegation => {
                "the old root key delegates its namespace to the key of a new participant, which \
                 then hosts the same parties; contracts are exported and imported unchanged"
            }
            Self::Envelope => {
                "the participant encrypts the private keys in its database with a key of the KMS; \
                 a restart is enough"
            }
            Self::Rewrite => {
                "a new participant with keys that were never outside of the custodian; parties \
                 and contracts get new names"
            }
        }
    }

    /// What is lost, or stays as a burden.
    pub fn loses(self) -> &'static [&'static str] {
        match self {
            Self::KeyExport => &[
                "the keys were outside of the custodian: whoever had them then has them for ever",
                "there is no way back but a copy of the exported keys that somebody keeps",
                "the remote export of keys must be switched on for it",
            ],
            Self::Delegation => &[
                "the old root key must be kept, offline, for ever: a new protocol version or \
                 synchronizer needs topology signed by it",
                "transaction history, offsets and command deduplication stay on the old \
                 participant",
            ],
            Self::Envelope => &[
                "keys are in the participant's memory in the clear: the KMS protects the \
                 database and its copies, not the process",
                "deleting the wrapping key makes every copy of the database useless",
            ],
            Self::Rewrite => &[
                "contract ids and party ids change: whoever keeps them elsewhere needs the maps",
                "transaction history, offsets, completions and command deduplication",
                "explicit disclosures that were handed out, and divulged contracts",
                "rights of users are made again; identity providers and pruning schedules are not",
                "the operator of every stakeholder must take part",
            ],
        }
    }

    /// What stays as it is.
    pub fn keeps(self) -> &'static [&'static str] {
        match self {
            Self::KeyExport | Self::Envelope => &["party ids", "contract ids", "history", "rights"],
            Self::Delegation => &["party ids", "contract ids", "contracts of other operators"],
            Self::Rewrite => &["create times", "templates and packages", "values of contracts"],
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What one way comes to here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Assessment {
    /// The way.
    pub way: Way,
    /// What stands in its way; nothing if it is possible.
    pub obstacles: Vec<String>,
}

impl Assessment {
    /// Whether it can be gone as things are.
    pub fn is_possible(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// What fits best, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recommendation {
    /// The way; none if every one is blocked.
    pub way: Option<Way>,
    /// The reason.
    pub because: &'static str,
}

/// Each way, in the order of [`Way::ALL`].
pub fn assess(ground: &Ground) -> Vec<Assessment> {
    let of = |way| match way {
        Way::KeyExport => key_export(ground),
        Way::Delegation => delegation(ground),
        Way::Envelope => envelope(ground),
        Way::Rewrite => rewrite(ground),
    };
    Way::ALL.into_iter().map(|way| Assessment { way, obstacles: of(way) }).collect()
}

/// What to choose. The rewrite if new keys are what is wanted and nothing stands in its way; a way
/// that keeps names if somebody else would have to agree.
pub fn recommend(ground: &Ground, assessed: &[Assessment]) -> Recommendation {
    let possible = |way: Way| assessed.iter().any(|found| found.way == way && found.is_possible());
    let shared = !ground.foreign.is_empty();
    if possible(Way::Rewrite) && !shared {
        let because = "every stakeholder is yours, and it alone ends the life of the old keys";
        return Recommendation { way: Some(Way::Rewrite), because };
    }
    if shared && possible(Way::Delegation) {
        let because = "contracts are shared with other operators, who need to do nothing; keep \
                       the old root key offline";
        return Recommendation { way: Some(Way::Delegation), because };
    }
    if shared && possible(Way::KeyExport) {
        let because = "contracts are shared with other operators, and names stay; the keys were \
                       outside of the custodian once";
        return Recommendation { way: Some(Way::KeyExport), because };
    }
    if possible(Way::Rewrite) {
        let because = "contracts are shared: it works once every operator agrees to the party map";
        return Recommendation { way: Some(Way::Rewrite), because };
    }
    if possible(Way::KeyExport) {
        let because = "contracts cannot be rewritten here, and keys can be exported";
        return Recommendation { way: Some(Way::KeyExport), because };
    }
    if possible(Way::Delegation) {
        let because = "contracts cannot be rewritten here; keep the old root key offline";
        return Recommendation { way: Some(Way::Delegation), because };
    }
    if possible(Way::Envelope) {
        let because = "nothing else is possible here; it protects the database only";
        return Recommendation { way: Some(Way::Envelope), because };
    }
    Recommendation { way: None, because: "each way is blocked: see its obstacles" }
}

/// The usages of a participant's keys.
const USAGES: [KeyUsage; 4] = [
    KeyUsage::Namespace,
    KeyUsage::SequencerAuthentication,
    KeyUsage::Protocol,
    KeyUsage::Encryption,
];

fn key_export(ground: &Ground) -> Vec<String> {
    let mut obstacles = Vec::new();
    if USAGES.iter().any(|usage| all_in_custodian(ground, *usage)) {
        obstacles
            .push("keys of the source are in a KMS, which gives no private key back".to_owned());
    }
    match ground.source.exports_keys {
        Some(true) => {}
        Some(false) => obstacles.push(
            "the source does not export private keys: switch its preview commands on for the time"
                .to_owned(),
        ),
        None => obstacles.push("whether the source exports private keys was not seen".to_owned()),
    }
    for key in &ground.source.keys {
        if key.scheme == KeyScheme::EciesP256 {
            obstacles.push(
                "its encryption key is ECIES, which no KMS imports: rotate it to RSA-2048 first"
                    .to_owned(),
            );
            continue;
        }
        let verdict = assess::assess_import(ground.custodian, key.usage, key.scheme);
        if verdict.outcome == Outcome::Impossible {
            let why = verdict.reasons.first().map_or("", |reason| reason.text.as_str());
            let (scheme, usage) = (key.scheme, key.usage);
            obstacles.push(format!("the {usage} key is {scheme}: {why}"));
        }
    }
    obstacles.sort();
    obstacles.dedup();
    obstacles
}

fn delegation(ground: &Ground) -> Vec<String> {
    let mut obstacles = Vec::new();
    if ground.source.version.major != 3 {
        obstacles.push("the source is no 3.x participant".to_owned());
    }
    for route in &ground.routes {
        if !ground.target.synchronizers.contains_key(&route.to) {
            obstacles.push(format!("the target is not registered with {}", route.to));
        }
    }
    obstacles
}

fn envelope(ground: &Ground) -> Vec<String> {
    let mut obstacles = Vec::new();
    match ground.custodian {
        CustodianKind::Aws | CustodianKind::Gcp => {}
        kind @ (CustodianKind::Software | CustodianKind::Pkcs11 | CustodianKind::Vault) => {
            obstacles.push(format!("Canton wraps with AWS KMS, GCP KMS or a driver, not {kind}"));
        }
    }
    if USAGES.iter().all(|usage| all_in_custodian(ground, *usage)) {
        obstacles.push("no key of the source is in its database".to_owned());
    }
    obstacles
}

fn rewrite(ground: &Ground) -> Vec<String> {
    let blocking = findings(ground).into_iter();
    let mut obstacles: Vec<String> = blocking
        .filter(|finding| finding.weight == RemarkWeight::Blocks)
        .map(|finding| finding.to_string())
        .collect();
    let only_external = !ground.hosted.is_empty()
        && ground.hosted.values().all(|kind| *kind == PartyKind::External);
    if only_external {
        obstacles.push("every hosted party has keys of its own: host them anew instead".to_owned());
    }
    obstacles
}

#[cfg(test)]
mod tests;
