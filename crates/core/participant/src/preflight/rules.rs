//! The rules themselves, by what they look at.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::contract_id::ContractIdVersion;
use heirloom_model::participant::{PartyKind, RemarkWeight};
use heirloom_model::party::{PartyId, SynchronizerId};

use super::required::{Required, SequencerSaid, SequencerSeen};
use super::{Code, Finding, Ground, SynchronizerSeen, newest_id};
use crate::custodian::assess::{self, Outcome};
use crate::custodian::key::KeyUsage;

/// Names in one sentence; the rest is counted.
const NAMES_SHOWN: usize = 5;

fn blocks(code: Code, what: String, remedy: &'static str) -> Finding {
    Finding { code, weight: RemarkWeight::Blocks, what, remedy }
}

fn warns(code: Code, what: String, remedy: &'static str) -> Finding {
    Finding { code, weight: RemarkWeight::Warns, what, remedy }
}

fn notes(code: Code, what: String, remedy: &'static str) -> Finding {
    Finding { code, weight: RemarkWeight::Notes, what, remedy }
}

/// The first few names, and how many more there are.
fn names<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|name| name.to_string()).collect();
    let shown = all.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

pub(super) fn versions(ground: &Ground, found: &mut Vec<Finding>) {
    let (source, target) = (ground.source.version, ground.target.version);
    let driven = |release: super::Release| release.major == 3 && release.minor >= 3;
    let sides = [(Code::SourceVersion, "source", source), (Code::TargetVersion, "target", target)];
    for (code, side, release) in sides {
        if !driven(release) {
            let what = format!("the {side} runs {release}, and 3.3 and later are driven");
            let remedy = "upgrade it by its own procedure first; snapshots of 2.x can be verified \
                          with `heirloom participant verify`";
            found.push(blocks(code, what, remedy));
        }
    }
    if target < source {
        let what = format!("the target runs {target}, the source {source}");
        let remedy = "install the source's release, or a later one, on the target";
        found.push(blocks(Code::TargetOlder, what, remedy));
    }
    let (one, other) = (&ground.source.participant, &ground.target.participant);
    if let (Some(one), Some(other)) = (one, other)
        && one == other
    {
        let what = format!("source and target are both {one}");
        let remedy = "name two participants: the target has a name of its own";
        found.push(blocks(Code::SameParticipant, what, remedy));
    }
}

pub(super) fn ids(ground: &Ground, found: &mut Vec<Finding>) {
    let of = |wanted: &dyn Fn(&ContractIdVersion) -> bool| -> u64 {
        let versions = ground.contracts.versions.iter();
        versions.filter(|(version, _)| wanted(version)).map(|(_, count)| count).sum()
    };
    let old = of(&|version| matches!(version, ContractIdVersion::Old(_)));
    if old > 0 {
        let what = format!("{old} contracts have ids of the second major version");
        let remedy = "the third one imports none of them: archive them, or let their templates \
                      make new ones";
        found.push(blocks(Code::OldIds, what, remedy));
    }
    for (synchronizer, seen) in target_synchronizers(ground) {
        let Some(protocol) = seen.and_then(|seen| seen.protocol) else { continue };
        let newest = newest_id(protocol);
        let newer = of(&|version| *version > newest);
        if newer > 0 {
            let what = format!(
                "{newer} contracts have newer ids than protocol version {protocol} of \
                 {synchronizer} takes"
            );
            let remedy = "choose a synchronizer with a later protocol version";
            found.push(blocks(Code::IdVersion, what, remedy));
        }
    }
    let weak = of(&|version| *version == ContractIdVersion::V11);
    if weak > 0 {
        let what = format!("{weak} contracts have ids of version 11, whose hash has collisions");
        let remedy = "they are moved as they are; let their templates make new ones in time";
        found.push(notes(Code::WeakIds, what, remedy));
    }
}

/// Where contracts go, and what the target knows of it.
fn target_synchronizers(
    ground: &Ground,
) -> impl Iterator<Item = (&SynchronizerId, Option<&SynchronizerSeen>)> {
    let wanted: BTreeSet<&SynchronizerId> = ground.routes.iter().map(|route| &route.to).collect();
    wanted.into_iter().map(|to| (to, ground.target.synchronizers.get(to)))
}

pub(super) fn synchronizers(ground: &Ground, found: &mut Vec<Finding>) {
    let routed: BTreeSet<&SynchronizerId> = ground.routes.iter().map(|route| &route.from).collect();
    let lost: Vec<_> =
        ground.contracts.synchronizers.iter().filter(|from| !routed.contains(from)).collect();
    if !lost.is_empty() {
        let what = format!("contracts stand on {}, which has no route", names(lost));
        found.push(blocks(Code::NoRoute, what, "say where they go"));
    }
    for (to, seen) in target_synchronizers(ground) {
        let Some(seen) = seen else {
            let what = format!("the target is not registered with {to}");
            let remedy = "register and connect it once, so that it has the parameters";
            found.push(blocks(Code::TargetSynchronizer, what, remedy));
            continue;
        };
        if seen.protocol.is_none() {
            let what = format!("the target was never connected to {to}");
            let remedy = "connect it once: a repair needs the synchronizer's parameters";
            found.push(blocks(Code::NeverConnected, what, remedy));
        }
    }
    for route in &ground.routes {
        let protocol = |side: &super::Side, id| side.synchronizers.get(id)?.protocol;
        let (from, to) =
            (protocol(&ground.source, &route.from), protocol(&ground.target, &route.to));
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            let what = format!(
                "protocol version {from} of {} would become {to} of {}",
                route.from, route.to
            );
            let remedy = "choose a synchronizer with the same protocol version, or a later one";
            found.push(blocks(Code::ProtocolLower, what, remedy));
        }
    }
}

pub(super) fn schemes(ground: &Ground, found: &mut Vec<Finding>) {
    custodian_schemes(ground, found);
    for (to, seen) in target_synchronizers(ground) {
        // A synchronizer that the target does not know is a finding of its own.
        let Some(seen) = seen else { continue };
        match heard(to, &seen.sequencers, found) {
            Heard::Required(required) => required_schemes(ground, to, required, found),
            Heard::Contradiction => {}
            Heard::Nothing => unseen(ground, to, &seen.sequencers, found),
        }
    }
}

/// What the sequencers of one synchronizer say together.
enum Heard<'a> {
    /// All that answered say this.
    Required(&'a Required),
    /// They contradict each other, which is a finding already.
    Contradiction,
    /// Nobody answered.
    Nothing,
}

/// Compares sequencers. None of them is believed more than another: members of a synchronizer
/// must agree on what it requires, so two that differ are a reason to stop and look.
fn heard<'a>(
    to: &SynchronizerId,
    sequencers: &'a [SequencerSeen],
    found: &mut Vec<Finding>,
) -> Heard<'a> {
    let before = found.len();
    let mut first: Option<(&str, &Required)> = None;
    for sequencer in sequencers {
        let what = match (&sequencer.said, first) {
            (SequencerSaid::Nothing { .. }, _) => continue,
            (SequencerSaid::Other(other), _) => {
                format!("sequencer {} is of {other}, not of {to}", sequencer.name)
            }
            (SequencerSaid::Required(required), None) => {
                first = Some((&sequencer.name, required));
                continue;
            }
            (SequencerSaid::Required(required), Some((_, same))) if required == same => continue,
            (SequencerSaid::Required(required), Some((name, other))) => {
                let more = names(required.differences(other));
                format!(
                    "sequencers of {to} do not require the same of keys: other than {name}, {} \
                     says {more}",
                    sequencer.name
                )
            }
        };
        let remedy = "find out which sequencer is wrong, and take it out of the connection";
        found.push(blocks(Code::SequencersDiffer, what, remedy));
    }
    match first {
        _ if found.len() > before => Heard::Contradiction,
        Some((_, required)) => Heard::Required(required),
        None => Heard::Nothing,
    }
}

/// Whether the keys that the target gets are taken. The root key signs topology, which every
/// member verifies like everything else.
fn required_schemes(
    ground: &Ground,
    to: &SynchronizerId,
    required: &Required,
    found: &mut Vec<Finding>,
) {
    for (usage, scheme) in &ground.wanted {
        let lacks = required.lacks(*scheme);
        if lacks.is_empty() {
            continue;
        }
        let admitted = required.admitted(*scheme);
        let taken = if admitted.is_empty() { "nothing known".to_owned() } else { names(admitted) };
        let what =
            format!("{to} takes {taken} for {usage}, not {scheme}: it lists no {}", names(lacks));
        let remedy = "make the key of a scheme that the synchronizer requires of its members, or \
                      choose another synchronizer";
        found.push(blocks(Code::SchemeNotTaken, what, remedy));
    }
    let unknown = required.unknown();
    if !unknown.is_empty() {
        let what = format!("{to} requires what is not known here: {}", names(unknown));
        let remedy = "make sure that the target's release has it: a participant does not connect \
                      where more is required than it has";
        found.push(warns(Code::SchemesUnknown, what, remedy));
    }
}

/// What was not seen of one synchronizer for several keys is one thing to do.
fn unseen(
    ground: &Ground,
    to: &SynchronizerId,
    sequencers: &[SequencerSeen],
    found: &mut Vec<Finding>,
) {
    let usages: BTreeSet<KeyUsage> = ground.wanted.iter().map(|(usage, _)| *usage).collect();
    if usages.is_empty() {
        return;
    }
    let silent = sequencers.iter().filter_map(|sequencer| match &sequencer.said {
        SequencerSaid::Nothing { why } => Some(format!("{}: {why}", sequencer.name)),
        SequencerSaid::Required(_) | SequencerSaid::Other(_) => None,
    });
    let reasons = names(silent);
    let why = if reasons.is_empty() { "no sequencer of it is known".to_owned() } else { reasons };
    let what = format!(
        "what {to} takes was not seen for {} uses of keys ({}): {why}",
        usages.len(),
        names(usages)
    );
    let remedy = "let this machine reach a sequencer, and look again";
    found.push(warns(Code::SchemesUnseen, what, remedy));
}

/// Whether the custodian has the schemes. Keys that are uncertain for one reason are one finding.
fn custodian_schemes(ground: &Ground, found: &mut Vec<Finding>) {
    let mut uncertain: BTreeMap<(String, &'static str), Vec<String>> = BTreeMap::new();
    for (usage, scheme) in &ground.wanted {
        let verdict = assess::assess(ground.custodian, *usage, *scheme);
        let why = verdict.reasons.first().map_or("", |reason| reason.text.as_str());
        match verdict.outcome {
            Outcome::Possible => {}
            Outcome::Uncertain => {
                let remedy = "try it with `heirloom custodian check` before you rely on it";
                let key = (why.to_owned(), verdict.fix.unwrap_or(remedy));
                uncertain.entry(key).or_default().push(format!("{scheme} for {usage}"));
            }
            Outcome::Impossible => {
                let what = format!("{scheme} for {usage} in {}: {why}", ground.custodian);
                let remedy = "choose a scheme that provider and participant both support";
                found.push(blocks(Code::SchemeNotSupported, what, verdict.fix.unwrap_or(remedy)));
            }
        }
    }
    for ((why, remedy), keys) in uncertain {
        let (count, custodian) = (keys.len(), ground.custodian);
        let what = match count {
            1 => format!("{} in {custodian}: {why}", names(keys)),
            _ => format!("{count} keys in {custodian}: {why}: {}", names(keys)),
        };
        found.push(warns(Code::SchemeUncertain, what, remedy));
    }
}

pub(super) fn packages(ground: &Ground, found: &mut Vec<Finding>) {
    let missing: Vec<_> = ground.contracts.packages.difference(&ground.source.packages).collect();
    if !missing.is_empty() {
        let what = format!("contracts need packages that the source lacks: {}", names(missing));
        let remedy = "upload them to the source: their types are needed to name contracts";
        found.push(blocks(Code::PackageMissing, what, remedy));
    }
}

pub(super) fn reassignments(ground: &Ground, found: &mut Vec<Finding>) {
    let reassigned = ground.contracts.reassigned;
    if reassigned > 0 {
        let what = format!("{reassigned} contracts were reassigned between synchronizers");
        let remedy = "the target takes them with a counter of zero only: the export renames their \
                      synchronizer";
        found.push(warns(Code::Reassigned, what, remedy));
    }
    match ground.unfinished_reassignments {
        Some(0) => {}
        Some(open) => {
            let what = format!("{open} reassignments were begun and not ended");
            let remedy = "end them first: their contracts are in no snapshot and would be lost";
            found.push(blocks(Code::Reassigning, what, remedy));
        }
        None => {
            let what = "the source does not say whether reassignments are under way".to_owned();
            let remedy = "make sure that none is: such contracts are in no snapshot";
            found.push(warns(Code::ReassigningUnknown, what, remedy));
        }
    }
}

pub(super) fn parties(ground: &Ground, found: &mut Vec<Finding>) {
    let of = |wanted: PartyKind| -> Vec<&PartyId> {
        let hosted = ground.hosted.iter();
        hosted.filter(|(_, kind)| **kind == wanted).map(|(party, _)| party).collect()
    };
    let local = of(PartyKind::Local);
    if local.is_empty() {
        let what = "the source hosts no party but its own".to_owned();
        let remedy = "there is nothing to move: use the target as it is";
        found.push(blocks(Code::NothingHosted, what, remedy));
    }
    let mut by_name: BTreeMap<&str, Vec<&PartyId>> = BTreeMap::new();
    for party in local {
        by_name.entry(party.identifier()).or_default().push(party);
    }
    for parties in by_name.values().filter(|parties| parties.len() > 1) {
        let what = format!("these would get one name: {}", names(parties));
        let remedy = "move all but one of them by another way, or name the new parties yourself";
        found.push(blocks(Code::Collision, what, remedy));
    }
    let (staked, external): (Vec<_>, Vec<_>) = of(PartyKind::External)
        .into_iter()
        .partition(|party| ground.contracts.external.contains(*party));
    if !staked.is_empty() {
        let what = format!(
            "these have keys of their own and a stake in contracts, and keep their names: {}",
            names(staked)
        );
        let remedy = "the target must host them first, with their own signatures";
        found.push(blocks(Code::ExternalStakes, what, remedy));
    }
    if !external.is_empty() {
        let what =
            format!("these have keys of their own and keep their names: {}", names(external));
        let remedy = "host them on the target with their own signatures";
        found.push(warns(Code::ExternalParties, what, remedy));
    }
    let (hosted, unhosted): (Vec<_>, Vec<_>) =
        ground.foreign.iter().partition(|(_, hosts)| !hosts.is_empty());
    if !hosted.is_empty() {
        let shown = hosted.iter().map(|(party, hosts)| format!("{party} on {}", names(*hosts)));
        let what = format!("parties of others stand in contracts: {}", names(shown));
        let remedy = "their operators must take part and agree to the party map: let each of \
                      their nodes publish a preflight, and plan with `--with NODE` for each";
        found.push(warns(Code::ForeignParties, what, remedy));
    }
    if !unhosted.is_empty() {
        let shown = unhosted.iter().map(|(party, _)| party);
        let what = format!("parties that nobody hosts stand in contracts: {}", names(shown));
        let remedy = "find out who hosts them, or archive the contracts";
        found.push(blocks(Code::UnhostedParties, what, remedy));
    }
}

pub(super) fn hosts(ground: &Ground, found: &mut Vec<Finding>) {
    if !ground.elsewhere.is_empty() {
        let shown = ground.elsewhere.iter();
        let shown = shown.map(|(party, hosts)| format!("{party} on {}", names(hosts)));
        let what = format!("hosted on another participant too: {}", names(shown));
        let remedy = "that one keeps every contract under the old name; end that hosting first";
        found.push(blocks(Code::HostedElsewhere, what, remedy));
    }
}

/// Whether every key of this usage is in a custodian already.
pub(crate) fn all_in_custodian(ground: &Ground, usage: KeyUsage) -> bool {
    let mut keys = ground.source.keys.iter().filter(|key| key.usage == usage).peekable();
    keys.peek().is_some() && keys.all(|key| key.in_custodian)
}
