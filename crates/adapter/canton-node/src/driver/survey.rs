//! What source and target look like.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::blob::FatContract;
use heirloom_canton::key::{EncryptionScheme, PublicKey, SigningKeyUsage, SigningScheme};
use heirloom_model::participant::{
    CustodianKind, ForeignParty, LedgerOffset, PartyKind, RemarkWeight, ServerVersion,
    SurveyFindings, SurveyedParty,
};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage};
use heirloom_participant::preflight::{
    ContractsSeen, Finding, Ground, KeySeen, Side, SynchronizerSeen, findings, remark,
};
use heirloom_upgrade::port::{
    Connection, DriverError, Link, ParticipantCall, ParticipantObservation, PlanWork, Restart,
    ServerObservation,
};

use crate::driver::fault::node_error;
use crate::driver::{Driver, Keeping, carry, ready, supply};
use crate::error::NodeError;
use crate::node::{Node, Place, Standing, Visit};

/// Foreign parties whose hosts are looked up one by one.
const FOREIGN_MAX: usize = 100_000;

impl Driver {
    /// What keeps the target's keys.
    pub(crate) fn custodian_kind(&self) -> CustodianKind {
        match &self.keeping {
            Keeping::Custodian(custodian) => custodian.describe().kind,
            Keeping::Participant => CustodianKind::Software,
        }
    }
}

/// Looks at everything, and changes nothing.
pub(crate) fn look(driver: &Driver) -> Result<(SurveyFindings, Ground), DriverError> {
    let (source, source_version) = ready(&driver.source)?;
    let (target, target_version) = target_of(driver)?;
    let parties = hosted(&driver.source, &source)?;
    let ledger_end = driver.source.ledger_end().map_err(node_error)?;
    let seen = contracts(&driver.source, &parties, ledger_end)?;
    let elsewhere = elsewhere(&driver.source, &source, &parties)?;
    let foreign = hosts(driver, &seen.others)?;
    let of_source = side(&driver.source, Some(source.clone()), &source_version)?;
    let mut of_target = side(&driver.target, target.clone(), &target_version)?;
    for wanted in driver.destinations() {
        // What the target does not know yet, enrolling lets it reach as the source does.
        if let Some(known) = of_source.synchronizers.get(&wanted) {
            let known = SynchronizerSeen { is_connected: false, ..known.clone() };
            of_target.synchronizers.entry(wanted).or_insert(known);
        }
    }
    ask_sequencers(driver, &mut of_target)?;
    let ground = Ground {
        source: of_source,
        target: of_target,
        custodian: driver.custodian_kind(),
        wanted: driver.settings.keys.iter().map(|key| (key.usage, key.scheme)).collect(),
        hosted: parties.clone(),
        elsewhere,
        foreign: foreign.clone(),
        routes: driver.settings.routes.clone(),
        unfinished_reassignments: Some(seen.unfinished),
        contracts: seen.seen,
    };
    let remarks = findings(&ground)
        .iter()
        .map(Finding::remark)
        .chain(seen.unread.map(|text| remark(RemarkWeight::Blocks, &text)))
        .collect();
    let findings = SurveyFindings {
        source,
        source_version,
        target_version,
        custodian: ground.custodian,
        target,
        routes: driver.settings.routes.clone(),
        parties: parties.into_iter().map(|(party, kind)| SurveyedParty { party, kind }).collect(),
        foreign: foreign.into_iter().map(|(party, hosts)| ForeignParty { party, hosts }).collect(),
        packages: ground.source.packages.len() as u64,
        contracts: ground.contracts.count(),
        ledger_end: LedgerOffset(ledger_end),
        remarks,
    };
    Ok((findings, ground))
}

/// Lets the sequencers of each destination say what they require of keys. The target's own
/// connection is asked, or, until it has one, that of the source, which it will get.
fn ask_sequencers(driver: &Driver, target: &mut Side) -> Result<(), DriverError> {
    let of_target = match target.participant {
        Some(_) => driver.target.registrations().map_err(node_error)?,
        None => Vec::new(),
    };
    let of_source = driver.source.registrations().map_err(node_error)?;
    for wanted in driver.destinations() {
        let Some(seen) = target.synchronizers.get_mut(&wanted) else { continue };
        for (node, registrations) in [(&driver.target, &of_target), (&driver.source, &of_source)] {
            let those =
                registrations.iter().filter(|one| one.synchronizer.as_ref() == Some(&wanted));
            for registration in those {
                seen.sequencers.extend(node.ask_sequencers(registration, &wanted));
            }
            if !seen.sequencers.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// The target's name, if it has one, and what it runs.
fn target_of(driver: &Driver) -> Result<(Option<ParticipantId>, ServerVersion), DriverError> {
    let said = match driver.target.standing().map_err(node_error)? {
        Standing::Ready { .. } => {
            let (participant, version) = ready(&driver.target)?;
            return Ok((Some(participant), version));
        }
        Standing::Waiting { version, .. } => version,
    };
    let target = driver.target.id().map_err(node_error)?;
    let version = match said {
        Some(said) => said.parse().map_err(|error| DriverError::Corrupt {
            what: "version of the target".to_owned(),
            reason: format!("{error}"),
        })?,
        None => driver.settings.target_version.clone().ok_or_else(|| DriverError::Missing {
            what: "version of the target, which it does not say before it has a name: put it \
                   into the settings"
                .to_owned(),
        })?,
    };
    Ok((target, version))
}

/// Everybody whom a participant hosts, and what they are there.
pub(crate) fn hosted(
    node: &Node,
    participant: &ParticipantId,
) -> Result<BTreeMap<PartyId, PartyKind>, DriverError> {
    let own = participant.namespace();
    let mut kinds = BTreeMap::new();
    for entry in node.parties().map_err(node_error)? {
        if !entry.is_local {
            continue;
        }
        let kind = if entry.party == participant.admin_party() {
            PartyKind::Admin
        } else if entry.party.namespace() == own {
            PartyKind::Local
        } else {
            // Whoever owns the namespace signs for it.
            PartyKind::External
        };
        kinds.insert(entry.party, kind);
    }
    for registration in node.registrations().map_err(node_error)? {
        let Some(synchronizer) = registration.synchronizer else { continue };
        let place = Place::Synchronizer(synchronizer);
        for hosting in node.hosted_by(&place, participant).map_err(node_error)? {
            if hosting.has_own_keys && hosting.party != participant.admin_party() {
                kinds.insert(hosting.party, PartyKind::External);
            }
        }
    }
    Ok(kinds)
}

/// The local parties that other participants host as well: those would keep the old names.
pub(crate) fn elsewhere(
    node: &Node,
    participant: &ParticipantId,
    parties: &BTreeMap<PartyId, PartyKind>,
) -> Result<BTreeMap<PartyId, Vec<ParticipantId>>, DriverError> {
    let mut found: BTreeMap<PartyId, BTreeSet<ParticipantId>> = BTreeMap::new();
    for registration in node.registrations().map_err(node_error)? {
        let Some(synchronizer) = registration.synchronizer else { continue };
        let place = Place::Synchronizer(synchronizer);
        for mut hosting in node.hosted_by(&place, participant).map_err(node_error)? {
            hosting.participants.remove(participant);
            let is_local = parties.get(&hosting.party) == Some(&PartyKind::Local);
            if is_local && !hosting.participants.is_empty() {
                found.entry(hosting.party).or_default().extend(hosting.participants);
            }
        }
    }
    Ok(found.into_iter().map(|(party, hosts)| (party, hosts.into_iter().collect())).collect())
}

/// What is seen of the contracts of a source.
struct Contracts {
    seen: ContractsSeen,
    /// Stakeholders that the source does not host.
    others: BTreeSet<PartyId>,
    /// Reassignments that are under way.
    unfinished: u64,
    /// The first contract that cannot be read.
    unread: Option<String>,
}

fn contracts(
    node: &Node,
    parties: &BTreeMap<PartyId, PartyKind>,
    ledger_end: u64,
) -> Result<Contracts, DriverError> {
    let mut seen = Contracts {
        seen: ContractsSeen::default(),
        others: BTreeSet::new(),
        unfinished: 0,
        unread: None,
    };
    if parties.is_empty() {
        return Ok(seen);
    }
    let everybody: BTreeSet<PartyId> = parties.keys().cloned().collect();
    let visited = node.visit_contracts::<NodeError>(&everybody, ledger_end, true, |visit| {
        let Visit::Active(found) = visit else {
            seen.unfinished = seen.unfinished.saturating_add(1);
            return Ok(());
        };
        let names = found.signatories.iter().chain(&found.observers);
        for party in names.filter_map(|name| name.parse::<PartyId>().ok()) {
            match parties.get(&party) {
                None if seen.others.len() < FOREIGN_MAX => {
                    seen.others.insert(party);
                }
                Some(PartyKind::External) => {
                    seen.seen.external.insert(party);
                }
                None | Some(PartyKind::Local | PartyKind::Admin) => {}
            }
        }
        let contracts = &mut seen.seen;
        if let Some(version) = found.id.version() {
            let count = contracts.versions.entry(version).or_default();
            *count = count.saturating_add(1);
        }
        contracts.reassigned = contracts.reassigned.saturating_add(u64::from(found.reassigned > 0));
        contracts.synchronizers.insert(found.synchronizer);
        match FatContract::decode(&found.blob) {
            Ok(contract) => {
                contracts.packages.insert(contract.template.package);
            }
            Err(error) => {
                let text = || format!("contract {} cannot be read: {error}", found.id);
                seen.unread.get_or_insert_with(text);
            }
        }
        Ok(())
    });
    visited.map_err(node_error)?;
    Ok(seen)
}

/// Who hosts parties of others, as far as the source's synchronizers say.
pub(crate) fn hosts(
    driver: &Driver,
    others: &BTreeSet<PartyId>,
) -> Result<BTreeMap<PartyId, Vec<ParticipantId>>, DriverError> {
    let mut hosts = BTreeMap::new();
    for party in others {
        let mut participants = BTreeSet::new();
        for route in &driver.settings.routes {
            let place = Place::Synchronizer(route.from.clone());
            let found = driver.source.hosts_of(&place, party).map_err(node_error)?;
            participants.extend(found.map(|hosting| hosting.participants).unwrap_or_default());
        }
        hosts.insert(party.clone(), participants.into_iter().collect());
    }
    Ok(hosts)
}

fn side(
    node: &Node,
    participant: Option<ParticipantId>,
    version: &ServerVersion,
) -> Result<Side, DriverError> {
    let version = version.as_str().parse().map_err(|error| DriverError::Corrupt {
        what: format!("version of {}", node.name()),
        reason: format!("{error}"),
    })?;
    let keys = node.keys().map_err(node_error)?;
    let keys = keys.iter().filter_map(|entry| {
        let (usage, scheme) = kind_of(&entry.material.key)?;
        Some(KeySeen { usage, scheme, in_custodian: entry.custodian_id.is_some() })
    });
    let keys = keys.collect();
    let mut synchronizers = BTreeMap::new();
    if participant.is_none() {
        // Before it has a name, it answers questions about keys only.
        let packages = BTreeSet::new();
        return Ok(Side {
            participant,
            version,
            keys,
            synchronizers,
            packages,
            exports_keys: None,
        });
    }
    for registration in node.registrations().map_err(node_error)? {
        let Some(synchronizer) = registration.synchronizer else { continue };
        let seen = SynchronizerSeen {
            protocol: registration.protocol,
            is_connected: registration.is_connected,
            sequencers: Vec::new(),
        };
        synchronizers.insert(synchronizer, seen);
    }
    let packages = node.packages().map_err(node_error)?;
    Ok(Side { participant, version, keys, synchronizers, packages, exports_keys: None })
}

/// What a key is for, if it is for one of the four uses.
fn kind_of(key: &PublicKey) -> Option<(KeyUsage, KeyScheme)> {
    match key {
        PublicKey::Encryption(key) => {
            let scheme = match key.scheme {
                EncryptionScheme::P256 => KeyScheme::EciesP256,
                EncryptionScheme::Rsa2048 => KeyScheme::Rsa2048,
            };
            Some((KeyUsage::Encryption, scheme))
        }
        PublicKey::Signing(key) => {
            let scheme = match key.scheme() {
                SigningScheme::Ed25519 => KeyScheme::Ed25519,
                SigningScheme::P256 => KeyScheme::P256,
                SigningScheme::P384 => KeyScheme::P384,
                SigningScheme::Secp256k1 => KeyScheme::Secp256k1,
                SigningScheme::MlDsa65 => KeyScheme::MlDsa65,
            };
            let usage = key.usages().iter().find_map(|usage| match usage {
                SigningKeyUsage::Namespace => Some(KeyUsage::Namespace),
                SigningKeyUsage::SequencerAuthentication => Some(KeyUsage::SequencerAuthentication),
                SigningKeyUsage::Protocol => Some(KeyUsage::Protocol),
                SigningKeyUsage::IdentityDelegation | SigningKeyUsage::ProofOfOwnership => None,
            });
            Some((usage?, scheme))
        }
    }
}

/// What is there now.
pub(crate) fn observe(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
) -> Result<ParticipantObservation, DriverError> {
    let source = answering(server(&driver.source, None))?;
    let stated = driver.settings.target_version.clone();
    let target = answering(server(&driver.target, stated))?;
    let work = driver.work(task)?;
    let mut seen = PlanWork { safeguarded: work.is_safeguarded()?, ..PlanWork::default() };
    if let Some(participant) = target.as_ref().and_then(|target| target.participant.clone()) {
        seen.lacking = match (&source, supply::lacking(driver, &participant)) {
            (None, _) | (_, Err(DriverError::Unknown(_))) => None,
            (Some(_), found) => Some(found?),
        };
        seen.imported = match carry::imported(driver, task, &work, &participant) {
            Err(DriverError::Unknown(_)) => None,
            found => found?,
        };
    }
    Ok(ParticipantObservation { source, target, work: seen, under_way: None })
}

/// A server that does not answer is none.
fn answering(
    found: Result<ServerObservation, DriverError>,
) -> Result<Option<ServerObservation>, DriverError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(DriverError::Unknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn server(node: &Node, stated: Option<ServerVersion>) -> Result<ServerObservation, DriverError> {
    let (participant, version) = match node.standing().map_err(node_error)? {
        Standing::Ready { .. } => {
            let (participant, version) = ready(node)?;
            (Some(participant), version)
        }
        Standing::Waiting { version, .. } => {
            let said = version.and_then(|version| version.parse().ok()).or(stated);
            let silent = || DriverError::Unknown(format!("{} says no version yet", node.name()));
            (node.id().map_err(node_error)?, said.ok_or_else(silent)?)
        }
    };
    // A participant without a name hosts nobody, and serves no applications.
    let Some(named) = participant.clone() else {
        return Ok(ServerObservation {
            participant,
            version,
            synchronizers: BTreeMap::new(),
            parties: BTreeSet::new(),
            ledger_end: None,
        });
    };
    let parties = hosted(node, &named)?;
    let others = parties.into_keys().filter(|party| *party != named.admin_party());
    Ok(ServerObservation {
        participant,
        version,
        synchronizers: connections(node)?,
        parties: others.collect(),
        ledger_end: Some(LedgerOffset(node.ledger_end().map_err(node_error)?)),
    })
}

/// How a participant is with each synchronizer. One that has two descriptions is connected if one
/// of them is, and connects by itself if one of them does.
pub(crate) fn connections(
    node: &Node,
) -> Result<BTreeMap<SynchronizerId, Connection>, DriverError> {
    let mut found: BTreeMap<SynchronizerId, Connection> = BTreeMap::new();
    for registration in node.registrations().map_err(node_error)? {
        let Some(synchronizer) = registration.synchronizer else { continue };
        let off = Connection { link: Link::Disconnected, restart: Restart::Manual };
        let connection = found.entry(synchronizer).or_insert(off);
        if registration.is_connected {
            connection.link = Link::Connected;
        }
        if !registration.is_manual {
            connection.restart = Restart::Automatic;
        }
    }
    Ok(found)
}
