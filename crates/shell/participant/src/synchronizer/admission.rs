//! What may stand in the log.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::blob::{BlobError, FatContract};
use heirloom_canton::contract_id::{ContractId, ContractIdError};
use heirloom_canton::hash::{Purpose, canton_hash};
use heirloom_canton::name::{NotAParty, Party};
use heirloom_canton_node::wire::crypto::{
    Signature, SigningKeyUsage, SigningPublicKey, public_key::Key,
};
use heirloom_canton_node::wire::protocol::enums::ParticipantPermission;
use heirloom_model::party::{ParsePartyError, ParticipantId, PartyId};
use prost::Message;

use crate::crypto::{self, CryptoError};
use crate::limit::{ACT_AS_MAX, COMMANDS_MAX};
use crate::synchronizer::wire::{Happening, SignedSubmission, Submission};
use crate::topology::Topology;

/// Why a transaction of contracts is not admitted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SubmissionRefusal {
    /// The bytes are no submission.
    #[error("the submission cannot be read: {0}")]
    Malformed(prost::DecodeError),
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// A party in it is none.
    #[error(transparent)]
    Party(#[from] NotAParty),
    /// A contract in it is none.
    #[error("a new contract cannot be read")]
    Blob(#[from] BlobError),
    /// A contract id in it is none.
    #[error("a contract id cannot be read")]
    ContractId(#[from] ContractIdError),
    /// A signature in it is none, or is not of the submission.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// It is for another synchronizer.
    #[error("the submission is for {found}, and this is {expected}")]
    OtherSynchronizer {
        /// What was found.
        found: String,
        /// What this is.
        expected: String,
    },
    /// The participant has no such key for this.
    #[error("key {key} is no {usage} key of {participant}")]
    UnknownKey {
        /// The fingerprint.
        key: String,
        /// What it should be for.
        usage: &'static str,
        /// Whose it should be.
        participant: ParticipantId,
    },
    /// Nothing, or too much, happens.
    #[error("a submission has 1 to {COMMANDS_MAX} commands and 1 to {ACT_AS_MAX} acting parties")]
    Size,
    /// A party may not be acted for through this participant.
    #[error("{participant} does not host {party} with permission to submit")]
    NotHosted {
        /// The party.
        party: PartyId,
        /// The participant.
        participant: ParticipantId,
    },
    /// Somebody must sign who does not.
    #[error("{contract} must be signed by {party}, which does not act")]
    NotAuthorized {
        /// The contract.
        contract: ContractId,
        /// The signatory.
        party: Party,
    },
    /// Nobody hosts a stakeholder.
    #[error("no participant hosts {party}")]
    UnknownParty {
        /// The stakeholder.
        party: Party,
    },
    /// A stakeholder's participant does not take the package.
    #[error("{participant} has not vetted package {package}")]
    NotVetted {
        /// The participant.
        participant: String,
        /// The package.
        package: String,
    },
}

/// A submission that may be put to those who must confirm it.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// What it says.
    pub submission: Submission,
    /// Who must confirm.
    pub confirming: BTreeSet<String>,
    /// Who sees it.
    pub informed: BTreeSet<String>,
}

/// The hash that a participant signs.
pub fn submission_hash(submission: &[u8]) -> heirloom_canton::hash::Multihash {
    canton_hash(Purpose::SubmissionRequestSignature, submission)
}

/// Whether a submission may be put to those who must confirm it.
pub fn admit(
    signed: &SignedSubmission,
    synchronizer: &str,
    topology: &Topology,
) -> Result<Admitted, SubmissionRefusal> {
    let submission = Submission::decode(signed.submission.as_slice());
    let submission = submission.map_err(SubmissionRefusal::Malformed)?;
    if submission.synchronizer_id != synchronizer {
        let (found, expected) = (submission.synchronizer_id, synchronizer.to_owned());
        return Err(SubmissionRefusal::OtherSynchronizer { found, expected });
    }
    let participant: ParticipantId = submission.participant.parse()?;
    let usage = SigningKeyUsage::Protocol;
    let key = key_of(topology, &participant, &signed.signed_by, usage)?;
    check(key, &submission_hash(&signed.submission), &signed.signed_by, &signed.signature)?;
    let sizes = (submission.nodes.len(), submission.act_as.len());
    if !(1..=COMMANDS_MAX).contains(&sizes.0) || !(1..=ACT_AS_MAX).contains(&sizes.1) {
        return Err(SubmissionRefusal::Size);
    }
    let mut acting = BTreeSet::new();
    for party in &submission.act_as {
        let party: PartyId = party.parse()?;
        if permission(topology, &party, &participant) != Some(ParticipantPermission::Submission) {
            return Err(SubmissionRefusal::NotHosted { party, participant });
        }
        acting.insert(Party::from(&party));
    }
    let mut hosts = Hosts { topology, known: BTreeMap::new() };
    let mut confirming = BTreeSet::from([participant.to_string()]);
    let mut informed = confirming.clone();
    for node in &submission.nodes {
        let shown = match node.happening.as_ref().ok_or(SubmissionRefusal::Size)? {
            Happening::Create(blob) => Shown::of_contract(&FatContract::decode(blob)?),
            Happening::Archive(archive) => Shown {
                contract: ContractId::from_bytes(&archive.contract_id)?,
                package: None,
                signatories: parties(&archive.signatories)?,
                observers: parties(&archive.observers)?,
            },
        };
        if let Some(party) = shown.signatories.difference(&acting).next().cloned() {
            let contract = shown.contract;
            return Err(SubmissionRefusal::NotAuthorized { contract, party });
        }
        hosts.gather(&shown, &mut confirming, &mut informed)?;
    }
    Ok(Admitted { submission, confirming, informed })
}

/// What a node shows of a contract.
struct Shown {
    contract: ContractId,
    package: Option<String>,
    signatories: BTreeSet<Party>,
    observers: BTreeSet<Party>,
}

impl Shown {
    fn of_contract(contract: &FatContract) -> Self {
        Self {
            contract: contract.contract_id.clone(),
            package: Some(contract.template.package.to_string()),
            signatories: contract.signatories.clone(),
            observers: contract.observers.clone(),
        }
    }
}

/// Who hosts whom and takes what, looked up once for many contracts.
struct Hosts<'a> {
    topology: &'a Topology,
    known: BTreeMap<Party, BTreeSet<String>>,
}

impl Hosts<'_> {
    fn gather(
        &mut self,
        shown: &Shown,
        confirming: &mut BTreeSet<String>,
        informed: &mut BTreeSet<String>,
    ) -> Result<(), SubmissionRefusal> {
        for party in shown.signatories.union(&shown.observers) {
            let hosts = self.of(party)?;
            if let Some(package) = &shown.package {
                let topology = self.topology;
                let takes = |host: &String| {
                    let host = host.parse::<ParticipantId>();
                    host.is_ok_and(|host| topology.packages_of(&host).contains(package))
                };
                if let Some(participant) = hosts.iter().find(|host| !takes(host)).cloned() {
                    let package = package.clone();
                    return Err(SubmissionRefusal::NotVetted { participant, package });
                }
            }
            if shown.signatories.contains(party) {
                confirming.extend(hosts.iter().cloned());
            }
            informed.extend(hosts);
        }
        Ok(())
    }

    fn of(&mut self, party: &Party) -> Result<BTreeSet<String>, SubmissionRefusal> {
        if let Some(hosts) = self.known.get(party) {
            return Ok(hosts.clone());
        }
        let hosts = self.topology.hosts_of(&party.as_party_id()?);
        if hosts.is_empty() {
            return Err(SubmissionRefusal::UnknownParty { party: party.clone() });
        }
        self.known.insert(party.clone(), hosts.clone());
        Ok(hosts)
    }
}

/// What a participant may do for a party.
pub fn permission(
    topology: &Topology,
    party: &PartyId,
    participant: &ParticipantId,
) -> Option<ParticipantPermission> {
    if *party == participant.admin_party() {
        return Some(ParticipantPermission::Submission);
    }
    let hosts = &topology.hosting(party)?.participants;
    let host = hosts.iter().find(|host| host.participant_uid == participant.as_str())?;
    ParticipantPermission::try_from(host.permission).ok()
}

/// The key of a participant with this name and usage.
pub fn key_of<'a>(
    topology: &'a Topology,
    participant: &ParticipantId,
    name: &str,
    usage: SigningKeyUsage,
) -> Result<&'a SigningPublicKey, SubmissionRefusal> {
    let keys = topology.keys_of(participant).iter().filter_map(|key| match &key.key {
        Some(Key::SigningPublicKey(key)) => Some(key),
        _ => None,
    });
    let mut named = keys.filter(|key| {
        let is_named = crypto::read_signing(key).is_ok_and(|(_, _, found)| found.as_str() == name);
        is_named && key.usage.contains(&usage.into())
    });
    named.next().ok_or_else(|| SubmissionRefusal::UnknownKey {
        key: name.to_owned(),
        usage: usage.as_str_name(),
        participant: participant.clone(),
    })
}

/// Whether a key signed a hash.
pub fn check(
    key: &SigningPublicKey,
    hash: &heirloom_canton::hash::Multihash,
    signed_by: &str,
    bytes: &[u8],
) -> Result<(), SubmissionRefusal> {
    let (scheme, ..) = crypto::read_signing(key)?;
    let signature: Option<Signature> = crypto::signature(scheme, signed_by, bytes);
    let signature = signature.ok_or(CryptoError::UnknownKey)?;
    Ok(crypto::verify(key, hash, &signature)?)
}

fn parties(list: &[String]) -> Result<BTreeSet<Party>, SubmissionRefusal> {
    Ok(list.iter().map(|party| party.parse()).collect::<Result<_, NotAParty>>()?)
}
