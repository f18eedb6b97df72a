//! Ten thousand generations into a keeper that has none: a rotation an hour for more than a year.
//!
//! The floor is the checksum chain computed once, and durable files of the same sizes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::intent::Intent;
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper::keyring::{checksum_before_first, extend};
use heirloom_keeper::port::{StateStore, StoreError};
use heirloom_model::admin::{AdminRequest, Source};
use heirloom_model::counter::{Generation, Moment};
use heirloom_model::identifier::DomainId;
use heirloom_model::policy::HolderRole;

use crate::disk;
use crate::figure::{Better, Figure};
use crate::network::{Network, node_name};
use crate::node::{self, Agent};
use crate::sample::timed;

const GENERATIONS: u64 = 10_000;
/// Receivers, one after the other; the median counts.
const ROUNDS: usize = 3;

/// Measures.
pub(crate) fn measure(directory: &Path, report: &mut dyn FnMut(&Figure)) {
    let mut network = Network::new();
    let sockets = tempfile::tempdir().expect("temporary directories can be made");
    let holder = directory.join("holder");
    let enclave = Arc::new(network.enclave(1, &network.old));
    let ((), created) = timed(|| create(&mut network, &enclave, &holder));
    let socket = sockets.path().join("1");
    let donor = node::run(&network, 1, enclave, &holder, &socket);
    Agent::connect(&socket).feed(&network.log);
    let source = Source { node: node_name(1), address: donor.address().to_string() };
    let receiver = Arc::new(network.enclave(2, &network.new));
    let (mut whole, mut bare, mut followed) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..ROUNDS {
        let (state, socket) = (directory.join("receiver"), sockets.path().join("2"));
        let running = node::run(&network, 2, Arc::clone(&receiver) as _, &state, &socket);
        let mut agent = Agent::connect(&socket);
        let ((), follow) = timed(|| agent.feed(&network.log));
        let request = AdminRequest::Replicate { sources: vec![source.clone()] };
        let ((), took) = timed(|| agent.demand(&request));
        let sizes = disk::keyring_files(&state);
        running.stop();
        fs::remove_dir_all(&state).expect("the keeper has stopped");
        whole.push(took.as_secs_f64());
        bare.push(floor(directory, &sizes));
        followed = follow.as_secs_f64();
    }
    donor.stop();
    report(&Figure {
        name: "keyring",
        what: format!("replication of {GENERATIONS} generations"),
        unit: "s",
        better: Better::Less,
        value: median(whole),
        floor: Some(median(bare)),
        target: Some("below 2 s; upstream reports 21 minutes".to_owned()),
        note: format!(
            "median of {ROUNDS} empty receivers; before it a receiver follows {} log entries, \
             which takes {followed:.1} s; making the keyring took {:.0} s",
            network.log.len(),
            created.as_secs_f64()
        ),
    });
}

/// The checksum chain once, and files of these sizes.
fn floor(directory: &Path, sizes: &[usize]) -> f64 {
    let files: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0x5a; *size]).collect();
    let ((), took) = timed(|| {
        let mut checksum = checksum_before_first(&DomainId::new([1; 32]));
        for _ in 0..GENERATIONS {
            checksum = extend(&checksum, &[7; 32]);
        }
        std::hint::black_box(checksum);
        for (number, bytes) in files.iter().enumerate() {
            disk::write_durably(directory, &format!("bare-{number}"), bytes);
        }
    });
    took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().expect("there are several rounds")
}

/// Orders, creates and commits every generation with one keeper, whose files are not flushed: how
/// long that takes is not the question.
fn create(network: &mut Network, enclave: &EmulatedEnclave, directory: &Path) {
    fs::create_dir(directory).expect("the directory can be written");
    let mut files = Unflushed(directory);
    let node = node_name(1);
    let (id, domain) = (network.ceremony.network, network.ceremony.domain);
    let config = KeeperConfig { network: id, domain, node: node.clone(), role: HolderRole::Keeper };
    let mut keeper = Keeper::start(config, enclave, &[]).expect("there is nothing to open");
    let mut fed = 0;
    for generation in 0..GENERATIONS {
        let order = network.order(Generation(generation), &node);
        fed = follow(&mut keeper, network, enclave, &mut files, fed);
        let intent = keeper.create_generation(enclave, order).expect("it was ordered");
        let receipt = carry_out(&mut keeper, &mut files, intent);
        network.accept_bytes(&receipt);
    }
    follow(&mut keeper, network, enclave, &mut files, fed);
}

fn follow(
    keeper: &mut Keeper,
    network: &Network,
    enclave: &EmulatedEnclave,
    files: &mut Unflushed<'_>,
    fed: usize,
) -> usize {
    let entries = network.log.get(fed..).expect("a log only grows");
    let intent = keeper.follow(enclave, entries, None, Moment(0)).expect("the log is one chain");
    carry_out(keeper, files, intent);
    network.log.len()
}

fn carry_out<T>(keeper: &mut Keeper, files: &mut Unflushed<'_>, intent: Intent<T>) -> T {
    let receipt = intent.persist(files).expect("the disk has room");
    keeper.complete(intent, receipt)
}

/// Files that power failures may take, for a keyring that nobody needs.
struct Unflushed<'d>(&'d Path);

impl StateStore for Unflushed<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        fs::write(self.0.join(name), bytes).map_err(|error| failed(name, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        fs::remove_file(self.0.join(name)).map_err(|error| failed(name, &error))
    }
}

fn failed(name: &str, error: &std::io::Error) -> StoreError {
    StoreError::Failed { file: name.to_owned(), reason: error.to_string() }
}
