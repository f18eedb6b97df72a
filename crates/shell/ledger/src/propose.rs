//! Starts consensus, proposes blocks while leading, and tells whoever leads what waits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Config, SnapshotPolicy};

use crate::command::PeerAddress;
use crate::limit::{
    ELECTION_MS, ENTRIES_KEPT, ENTRIES_PER_MESSAGE, ENTRIES_PER_SNAPSHOT, FORWARD_AGAIN,
    FORWARD_MAX, HEARTBEAT_MS,
};
use crate::log::event;
use crate::peer::message::PeerQuestion;
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::types::{Proposed, Raft, number};
use crate::raft::votes::Votes;
use crate::service::Service;

/// How long a proposed block may take before it is looked at again.
const PROPOSAL_TIME: Duration = Duration::from_secs(5);
/// The shortest time between two blocks, whatever is configured.
const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// Starts consensus. The group begins at the end of the ledger that was loaded; the node with the
/// first name says who takes part, if nothing was ever promised here.
pub(crate) async fn start_raft(
    service: &Arc<Service>,
    votes: Votes,
    peers: &[PeerAddress],
    own_address: SocketAddr,
) -> Result<Raft, String> {
    let own = &service.instance().own().node;
    let config = Config {
        cluster_name: "ledger".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MS.0,
        election_timeout_max: ELECTION_MS.1,
        max_payload_entries: ENTRIES_PER_MESSAGE,
        install_snapshot_timeout: 10_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let links = service.links().ok_or("sessions come first")?;
    let network = Network { links: Arc::clone(links), chain: Arc::clone(service.chain()) };
    let machine = Machine::new(Arc::clone(service.chain()), votes.clone());
    let is_new = votes.is_new();
    let raft = Raft::new(number(own), config, network, votes, machine).await;
    let raft = raft.map_err(|error| error.to_string())?;
    let first = peers.iter().all(|peer| *own < peer.node);
    if is_new && first {
        let mut members: BTreeMap<u64, BasicNode> = BTreeMap::new();
        members.insert(number(own), BasicNode::new(own_address.to_string()));
        for peer in peers {
            members.insert(number(&peer.node), BasicNode::new(peer.address.clone()));
        }
        raft.initialize(members).await.map_err(|error| error.to_string())?;
    }
    Ok(raft)
}

/// Proposes and forwards until the service is over.
pub(crate) fn start_tasks(service: &Arc<Service>) {
    let (proposing, forwarding) = (Arc::clone(service), Arc::clone(service));
    service.runtime().spawn(async move { propose(&proposing).await });
    service.runtime().spawn(async move { forward(&forwarding).await });
}

async fn propose(service: &Service) {
    let configured = service.chain().configuration().block_interval_milliseconds;
    let interval = Duration::from_millis(configured).max(INTERVAL_MIN);
    let Some(raft) = service.raft() else { return };
    while !service.is_over() {
        tokio::time::sleep(interval).await;
        if let Err(ended) = &raft.metrics().borrow().running_state
            && !service.is_over()
        {
            service.chain().stop_serving(format!("consensus has ended: {ended}"));
            return;
        }
        let leads =
            raft.metrics().borrow().current_leader == Some(number(&service.instance().own().node));
        if !leads || service.chain().is_broken() {
            continue;
        }
        let instance = service.instance();
        let built = tokio::task::block_in_place(|| {
            let node = &instance.own().node;
            service.chain().propose(node, instance.measurement(), instance.key())
        });
        let Some(block) = built else { continue };
        let written = tokio::time::timeout(PROPOSAL_TIME, raft.client_write(Proposed(block)));
        match written.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => event("not-proposed", error),
            Err(_) => event("proposal-late", "nobody agreed in time"),
        }
    }
}

/// Tells whoever leads what waits here, until it is in a block: a leader may forget it.
async fn forward(service: &Service) {
    let Some(raft) = service.raft() else { return };
    while !service.is_over() {
        let submitted = service.chain().submitted();
        // Whatever wakes it, it looks at everything that waits.
        tokio::time::timeout(FORWARD_AGAIN, submitted).await.ok();
        let Some(leader) = raft.metrics().borrow().current_leader else { continue };
        let Some(link) = service.links().and_then(|links| links.by_number(leader)) else {
            continue;
        };
        let waiting = service.chain().waiting(FORWARD_MAX);
        if waiting.is_empty() {
            continue;
        }
        // What was not heard is said again.
        link.ask(PeerQuestion::Submit(waiting)).await.ok();
    }
}
