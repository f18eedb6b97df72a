//! Sessions that other nodes open.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use heirloom_model::causes::with_causes;
use heirloom_session::error::SessionError;
use heirloom_session::session::accept;
use openraft::error::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Snapshot, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chain::ApplyError;
use crate::limit::{PEER_IDLE_MAX, PEER_SESSIONS_MAX};
use crate::log::event;
use crate::peer::link::TalkError;
use crate::peer::living::Present;
use crate::peer::message::{
    EncodedBlock, EncodedTransaction, Greeting, PeerAnswer, PeerQuestion, Welcome,
};
use crate::raft::network::Install;
use crate::raft::types::{LedgerRaft, number};
use crate::service::{PeerPosition, Service};
use heirloom_session::connections::Connections;

/// Takes connections until the service is over.
pub(crate) fn listen(
    listener: &TcpListener,
    service: &Arc<Service>,
    connections: &Arc<Connections<TcpStream>>,
) {
    for stream in listener.incoming() {
        if service.is_over() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let Some(number) = connections.admit(&stream) else {
            event("too-many-peers", PEER_SESSIONS_MAX);
            continue;
        };
        let (service, open) = (Arc::clone(service), Arc::clone(connections));
        let spawned = thread::Builder::new().name("from peer".to_owned()).spawn(move || {
            match serve(&service, stream) {
                Ok(()) | Err(TalkError::Session(SessionError::Closed | SessionError::Timeout)) => {}
                Err(error) => event("peer-ended", with_causes(&error)),
            }
            open.forget(number);
        });
        if let Err(error) = spawned {
            connections.forget(number);
            event("no-thread", error);
        }
    }
}

fn serve(service: &Service, stream: TcpStream) -> Result<(), TalkError> {
    stream.set_nodelay(true).map_err(SessionError::Connection)?;
    let mut session = accept(stream, service.identity(), &service.session_context())?;
    session.set_patience(PEER_IDLE_MAX)?;
    let greeting: Greeting = session.receive()?;
    session.queue(&service.greeting())?;
    // The peer is seen until the session ends.
    let present = match service.judge(session.peer(), &greeting) {
        Ok(present) => present,
        Err(refusal) => {
            session.send(&Welcome::Refused { code: refusal.code().to_owned() })?;
            return Err(refusal.into());
        }
    };
    session.send(&Welcome::Peer)?;
    while !service.is_over() {
        let question: PeerQuestion = session.receive()?;
        if !service.is_current(session.peer()) {
            return Err(TalkError::Stale);
        }
        let answer = answer(service, (&greeting, &present), question);
        session.send(&answer)?;
    }
    Ok(())
}

fn answer(
    service: &Service,
    (peer, present): (&Greeting, &Present),
    question: PeerQuestion,
) -> PeerAnswer {
    let answered = match question {
        PeerQuestion::Vote(text) => vote(service, peer, &text),
        PeerQuestion::Append(text) => append(service, peer, &text),
        PeerQuestion::Install(text) => install(service, peer, &text),
        PeerQuestion::Blocks(blocks) => take_blocks(service, &blocks),
        PeerQuestion::Submit(transactions) => Ok(submit(service, &transactions)),
        PeerQuestion::Compare { tip, pending } => {
            let own = service.position();
            let there = service.chain().id_at(tip.height).ok().flatten();
            service.compared(present, own.tip, PeerPosition { tip, pending }, None);
            Ok(PeerAnswer::At { tip: own.tip, there, pending: own.pending })
        }
    };
    answered.unwrap_or_else(|reason| PeerAnswer::Refused { reason })
}

/// Who wants to lead, or leads, says so itself: nobody votes or leads under another name.
fn expect_own_voice(peer: &Greeting, vote: &Vote<u64>) -> Result<(), String> {
    if vote.leader_id().voted_for() == Some(number(&peer.node)) {
        return Ok(());
    }
    Err(format!("{} speaks for another node", peer.node))
}

fn vote(service: &Service, peer: &Greeting, text: &[u8]) -> Result<PeerAnswer, String> {
    let rpc: VoteRequest<u64> = parse(text)?;
    expect_own_voice(peer, &rpc.vote)?;
    let raft = service.raft().ok_or(NOT_READY)?;
    let answered: Result<VoteResponse<u64>, RaftError<u64>> =
        service.runtime().block_on(raft.vote(rpc));
    Ok(PeerAnswer::Raft(said(&answered)))
}

fn append(service: &Service, peer: &Greeting, text: &[u8]) -> Result<PeerAnswer, String> {
    let rpc: AppendEntriesRequest<LedgerRaft> = parse(text)?;
    expect_own_voice(peer, &rpc.vote)?;
    let raft = service.raft().ok_or(NOT_READY)?;
    let answered = service.follow(raft, rpc).ok_or("the node has promised to append nothing")?;
    Ok(PeerAnswer::Raft(said(&answered)))
}

fn install(service: &Service, peer: &Greeting, text: &[u8]) -> Result<PeerAnswer, String> {
    let Install { vote, meta, note } = parse(text)?;
    expect_own_voice(peer, &vote)?;
    let raft = service.raft().ok_or(NOT_READY)?;
    let own = service.chain().id_at(heirloom_model::service::Height(note.height));
    if !matches!(own, Ok(Some(id)) if id.to_string() == note.id) {
        return Err("the ledger does not have the blocks of the snapshot".to_owned());
    }
    let snapshot = Snapshot { meta, snapshot: Box::new(note) };
    let answered: Result<SnapshotResponse<u64>, Fatal<u64>> =
        service.runtime().block_on(raft.install_full_snapshot(vote, snapshot));
    Ok(PeerAnswer::Raft(said(&answered)))
}

/// Blocks that were agreed on before this node came back. Each is checked like any other.
fn take_blocks(service: &Service, blocks: &[EncodedBlock]) -> Result<PeerAnswer, String> {
    for EncodedBlock(block) in blocks {
        match service.chain().adopt(block) {
            Ok(_) => {}
            Err(error @ (ApplyError::Broken(_) | ApplyError::Frozen)) => {
                return Err(error.to_string());
            }
        }
    }
    let (tip, pending) = (service.chain().tip(), service.chain().pending());
    Ok(PeerAnswer::At { tip, there: None, pending })
}

fn submit(service: &Service, transactions: &[EncodedTransaction]) -> PeerAnswer {
    let mut count = 0_u32;
    for EncodedTransaction(bytes) in transactions.iter().take(crate::limit::FORWARD_MAX) {
        // One that does not count here will not count in a block either; its node finds out.
        let taken = heirloom_model::wire::decode(bytes)
            .is_ok_and(|transaction| service.chain().submit(transaction).is_ok());
        count = count.saturating_add(u32::from(taken));
    }
    PeerAnswer::Taken { count }
}

const NOT_READY: &str = "the node is not ready yet";

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|_| "this is no message of consensus".to_owned())
}

fn said<T: Serialize>(answer: &T) -> Vec<u8> {
    serde_json::to_vec(answer).expect("answers of consensus have a text")
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::{ConfigurationDigest, NetworkId};

    use super::*;

    #[test]
    fn nobody_speaks_for_another_node() {
        let peer = Greeting {
            node: "n1".parse().unwrap(),
            network: NetworkId::new([1; 32]),
            application: "ledger".parse().unwrap(),
            configuration: ConfigurationDigest::new([2; 32]),
        };
        let [own, other] = ["n1", "n2"].map(|name| number(&name.parse().unwrap()));
        for vote in [Vote::new(3, own), Vote::new_committed(3, own)] {
            assert_eq!(expect_own_voice(&peer, &vote), Ok(()));
        }
        for vote in [Vote::new(3, other), Vote::new_committed(3, other)] {
            assert!(expect_own_voice(&peer, &vote).is_err());
        }
    }
}
