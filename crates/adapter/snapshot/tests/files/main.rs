//! Whole snapshot files: real contracts, and contracts made here that refer to each other.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says if it is skipped"
)]

mod refusals;
mod vectors;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::name::Party;
use heirloom_canton::types::TypeStore;
use heirloom_participant::map::PartyMap;
use heirloom_participant::report::Mention;
use heirloom_participant::shared::Hosting;
use heirloom_snapshot::check::{RewrittenSnapshot, check_inverse, verify_after};
use heirloom_snapshot::error::SnapshotError;
use heirloom_snapshot::rewrite::{RewriteOutcome, rewrite};
use heirloom_snapshot::run::{Change, Outputs, Run, Sharing};
use heirloom_snapshot::scratch::Scratch;
use heirloom_snapshot::verify::{VerifiedSnapshot, verify};
use proptest::prelude::*;
use world::{NEW, OLD, OTHER, Spec, World, compress, entry, moves};

/// A directory with a source and its outputs.
struct Files {
    directory: tempfile::TempDir,
    scratch: Scratch,
}

impl Files {
    fn new(source: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("scratch")).unwrap();
        fs::create_dir(directory.path().join("out")).unwrap();
        fs::write(directory.path().join("source.gz"), source).unwrap();
        let scratch = Scratch::new(&directory.path().join("scratch"));
        Self { directory, scratch }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source.gz")
    }

    fn outputs(&self) -> Outputs {
        let out = self.directory.path().join("out");
        Outputs {
            snapshot: out.join("acs.gz"),
            contract_map: out.join("contracts"),
            report: out.join("report"),
        }
    }

    /// Small sorters, so that everything goes through files.
    fn run<'r>(&'r self, types: &'r (dyn TypeStore + Sync), workers: usize) -> Run<'r> {
        let mut run = Run::new(types, &self.scratch);
        run.workers = NonZeroUsize::new(workers).unwrap();
        run.sort_bytes = 4096;
        run
    }

    fn is_tidy(&self) {
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!(names(&self.directory.path().join("scratch")), 0);
    }

    fn has_no_output(&self) {
        self.is_tidy();
        assert_eq!(fs::read_dir(self.directory.path().join("out")).unwrap().count(), 0);
    }
}

fn map_of(moves: &[(String, String)]) -> PartyMap {
    let pairs = moves.iter().map(|(old, new)| (old.parse().unwrap(), new.parse().unwrap()));
    PartyMap::from_moves(pairs).unwrap()
}

fn change() -> Change {
    Change::new(map_of(&moves()), BTreeMap::new()).unwrap()
}

/// Verifies, rewrites, reads again, and inverts.
fn whole(
    files: &Files,
    types: &(dyn TypeStore + Sync),
    change: &Change,
    workers: usize,
) -> Result<(VerifiedSnapshot, RewriteOutcome, RewrittenSnapshot), SnapshotError> {
    let mut run = files.run(types, workers);
    let verified = verify(&files.source(), &mut run)?;
    let outputs = files.outputs();
    let outcome = rewrite(&verified, change, &outputs, &mut run)?;
    let written = verify_after(&verified, &outcome, change, &outputs, &mut run)?;
    check_inverse(&verified, &written, change, &mut run)?;
    files.is_tidy();
    Ok((verified, outcome, written))
}

/// Contracts where each may refer to any that was made before, in another order than they were
/// made in.
fn graph(world: &World, parents: &[Vec<usize>], order: &[usize]) -> Vec<FatContract> {
    let mut contracts: Vec<FatContract> = Vec::new();
    for (index, parents) in parents.iter().enumerate() {
        let mut spec = Spec::new(i64::try_from(index).unwrap());
        let known = parents.iter().filter(|_| index > 0);
        spec.parents = known.map(|p| contracts[p % index].contract_id.clone()).collect();
        contracts.push(world.contract(&spec));
    }
    let mut ordered: Vec<(usize, FatContract)> =
        contracts.into_iter().enumerate().map(|(i, c)| (order[i % order.len()], c)).collect();
    ordered.sort_by_key(|(place, _)| *place);
    ordered.into_iter().map(|(_, contract)| contract).collect()
}

fn source_of(contracts: &[FatContract]) -> Vec<u8> {
    compress(&contracts.iter().map(entry).collect::<Vec<_>>())
}

fn read_outputs(outputs: &Outputs) -> [Vec<u8>; 3] {
    [&outputs.snapshot, &outputs.contract_map, &outputs.report].map(|path| fs::read(path).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_references_in_any_order_are_rewritten_alike_on_any_number_of_cores(
        parents in prop::collection::vec(prop::collection::vec(0usize..1000, 0..4), 1..60),
        order in prop::collection::vec(0usize..1000, 1..60),
    ) {
        let world = World::new();
        let contracts = graph(&world, &parents, &order);
        let files = Files::new(&source_of(&contracts));
        let (_, outcome, written) = whole(&files, &world, &change(), 1).unwrap();
        let first = read_outputs(&files.outputs());
        for workers in [2, 4] {
            let (_, again, _) = whole(&files, &world, &change(), workers).unwrap();
            prop_assert_eq!(&again, &outcome);
            prop_assert_eq!(&read_outputs(&files.outputs()), &first);
        }
        prop_assert_eq!(outcome.report.renamed, u64::try_from(contracts.len()).unwrap());
        prop_assert_eq!(outcome.report.outside, 0);
        prop_assert_eq!(written.snapshot().contents().missing, 0);
    }
}

#[test]
fn a_long_chain_in_the_worst_order_is_rewritten() {
    let world = World::new();
    let parents: Vec<Vec<usize>> = (0..3_000).map(|n: usize| vec![n.saturating_sub(1)]).collect();
    let order: Vec<usize> = (0..3_000).rev().collect();
    let files = Files::new(&source_of(&graph(&world, &parents, &order)));
    let (verified, outcome, _) = whole(&files, &world, &change(), 2).unwrap();
    assert_eq!(verified.contents().referenced, 2_999);
    assert_eq!(outcome.report.inside, 2_999);
}

#[test]
fn many_batches_keep_their_order() {
    let world = World::new();
    let contracts: Vec<FatContract> = (0..3_000)
        .map(|n| {
            let mut spec = Spec::new(n);
            spec.note = format!("{n} ").repeat(300);
            world.contract(&spec)
        })
        .collect();
    let files = Files::new(&source_of(&contracts));
    let (verified, _, _) = whole(&files, &world, &change(), 3).unwrap();
    // Some batches of a megabyte.
    assert!(verified.bytes() > 4 << 20);
    let map = fs::read_to_string(files.outputs().contract_map).unwrap();
    let old: Vec<String> = map.lines().filter_map(|l| Some(l.split_once(' ')?.0.into())).collect();
    let expected: Vec<String> = contracts.iter().map(|c| c.contract_id.to_string()).collect();
    assert_eq!(old[1..=3_000], expected);
}

#[test]
fn what_stays_is_reported() {
    let world = World::new();
    let elsewhere = world.contract(&Spec::new(100)).contract_id;
    let mut spec = Spec::new(0);
    spec.parents = vec![elsewhere.clone()];
    spec.note = format!("pay to owner-0::{OLD}");
    let mut other = Spec::new(1);
    other.note = format!("on sync::{OTHER}");
    other.holders.push(format!("stranger::{OTHER}"));
    other.holders.push(format!("node::{OLD}"));
    let contracts = [world.contract(&spec), world.contract(&other)];
    let files = Files::new(&source_of(&contracts));
    let (_, outcome, _) = whole(&files, &world, &change(), 2).unwrap();
    let report = &outcome.report;
    assert_eq!((report.texts_moved, report.texts_other), (1, 1));
    assert_eq!(report.texts[0].mention, Mention::Moved);
    assert_eq!(report.texts[0].contract, contracts[0].contract_id);
    assert_eq!(report.outside_listed[0].reference, elsewhere);
    let staying: Vec<&str> = report.staying.keys().map(Party::as_str).collect();
    assert!(staying.contains(&format!("stranger::{OTHER}").as_str()));
    assert!(staying.contains(&format!("node::{OLD}").as_str()));
    assert!(!staying.iter().any(|party| party.starts_with("owner")));
    let text = fs::read_to_string(files.outputs().report).unwrap();
    assert_eq!(text, report.to_text());
}

#[test]
fn another_synchronizer_is_put_in_place() {
    let world = World::new();
    let files = Files::new(&source_of(&[world.contract(&Spec::new(0))]));
    let target = format!("target::{NEW}").parse().unwrap();
    let routes = BTreeMap::from([(world::synchronizer(), target)]);
    let change = Change::new(map_of(&moves()), routes).unwrap();
    let (_, _, written) = whole(&files, &world, &change, 1).unwrap();
    let found: Vec<String> =
        written.snapshot().contents().synchronizers.keys().map(ToString::to_string).collect();
    assert_eq!(found, [format!("target::{NEW}")]);
}

#[test]
fn a_synchronizer_in_a_namespace_that_parties_leave_keeps_its_name() {
    let world = World::new();
    let contract = world.contract(&Spec::new(0));
    let event = heirloom_canton::ledger_event::write(&contract, &[]);
    let synchronizer = format!("sync::{OLD}").parse().unwrap();
    let entry = heirloom_canton::acs::ActiveContract::new(&event, &synchronizer, 0).unwrap();
    let files = Files::new(&compress(&[entry.encode().to_vec()]));
    whole(&files, &world, &change(), 1).unwrap();
}

/// The snapshot of one node: its contracts among all.
fn part(contracts: &[FatContract], hosted: &str) -> Vec<u8> {
    let mine = |contract: &&FatContract| {
        contract.stakeholders().iter().any(|party| party.as_str() == hosted)
    };
    let mine: Vec<Vec<u8>> = contracts.iter().filter(mine).map(entry).collect();
    compress(&mine)
}

#[test]
fn two_nodes_agree_on_the_contracts_that_they_share_unless_one_map_differs() {
    let world = World::new();
    // Owners 0 to 6 are hosted by one node, a::OTHER and others by another one.
    let contracts: Vec<FatContract> = (0..50).map(|n| world.contract(&Spec::new(n))).collect();
    let node = |name: &str| name.parse().unwrap();
    let (one, two) = (format!("owner-3::{OLD}"), format!("b-2::{OLD}"));
    let shared = |own: &str, hosted: &str, map: &PartyMap| {
        let files = Files::new(&part(&contracts, hosted));
        let mut hosting = Hosting::new();
        hosting.host(&one.parse().unwrap(), node("one"));
        hosting.host(&two.parse().unwrap(), node("two"));
        let sharing = Sharing { own: node(own), hosting: hosting.moved(map) };
        let change = Change::new(map.clone(), BTreeMap::new()).unwrap().shared_with(sharing);
        let (_, outcome, _) = whole(&files, &world, &change, 2).unwrap();
        outcome.shared
    };
    let map = map_of(&moves());
    let (first, second) = (shared("one", &one, &map), shared("two", &two, &map));
    assert_eq!(first[&node("two")], second[&node("one")]);
    // Numbers that are 3 modulo 7 and 2 modulo 5: 17.
    assert_eq!(first[&node("two")].contracts, 1);
    let mut other = moves();
    other.retain(|(old, _)| !old.starts_with("owner-3"));
    let second = shared("two", &two, &map_of(&other));
    assert_ne!(first[&node("two")].ids, second[&node("one")].ids);
}

/// Used by the other modules.
fn id_at(contracts: &[FatContract], index: usize) -> ContractId {
    contracts[index].contract_id.clone()
}
