//! Addresses that expire with a lease.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NODES_MAX;
use heirloom_model::wire::{self, Wire};
use heirloom_registry::port::{AnnounceError, Presence, PresenceTable, ReadError};

use crate::etcd::{Etcd, Fault};
use crate::layout::{Announced, Keys, LastSaid};

/// Another server may keep an announcement of the same node at the same moment, but not for ever.
const ATTEMPTS_MAX: usize = 8;
/// Addresses that are read at once: 300 bytes each.
const PAGE_ADDRESSES: i64 = 1_000;

/// Where the nodes of one network can be reached, on a cluster. All servers of the network share
/// it.
///
/// etcd counts in seconds, and ends a lease up to some seconds late.
#[derive(Debug)]
pub struct EtcdPresence {
    etcd: Etcd,
    keys: Keys,
}

impl EtcdPresence {
    /// The table of this network. Nothing is called yet.
    pub fn new(etcd: Etcd, network: NetworkId) -> Self {
        Self { etcd, keys: Keys::new(&network) }
    }

    async fn keep(&self, node: &NodeId, said: &Presence) -> Result<(), AnnounceError> {
        for _ in 0..ATTEMPTS_MAX {
            let last = GetOptions::new();
            let all = GetOptions::new().with_prefix().with_count_only();
            let look = Txn::new().and_then([
                TxnOp::get(self.keys.said(node), Some(last)),
                TxnOp::get(self.keys.address(node), None),
                TxnOp::get(self.keys.all_said(), Some(all)),
            ]);
            let (_, answer) = self.etcd.repeat(&look).await.map_err(ReadError::from)?;
            let mut found = answer.op_responses().into_iter().map(|answer| match answer {
                TxnOpResponse::Get(found) => Some(found),
                _ => None,
            });
            let mut next = || found.next().flatten().ok_or_else(unasked);
            let (last, address, all) = (next()?, next()?, next()?);
            let seen = match last.kvs().first() {
                Some(last) => {
                    let LastSaid { said_at_ms } = decode(last)?;
                    if said_at_ms >= said.said_at_ms {
                        return Err(AnnounceError::Stale);
                    }
                    last.mod_revision()
                }
                None if usize::try_from(all.count()).is_ok_and(|count| count < NODES_MAX) => 0,
                None => return Err(AnnounceError::TooMany { limit: NODES_MAX }),
            };
            if self.replace(node, said, seen).await? {
                self.end_lease(&address).await;
                return Ok(());
            }
        }
        let reason = "other servers keep announcements of the node without a pause".to_owned();
        Err(ReadError::Unreachable { reason }.into())
    }

    /// Keeps an announcement, unless another was kept since `seen`.
    async fn replace(&self, node: &NodeId, said: &Presence, seen: i64) -> Result<bool, ReadError> {
        let seconds = said.ttl.as_millis().div_ceil(1_000).max(1);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let grant = |mut client: Client| async move { client.lease_grant(seconds, None).await };
        let (_, lease) = self.etcd.ask(grant).await?;
        let ttl_ms = u64::try_from(said.ttl.as_millis()).unwrap_or(u64::MAX);
        let announced = Announced {
            address: said.address.clone(),
            said_at_ms: said.said_at_ms,
            until_ms: now_ms().saturating_add(ttl_ms),
        };
        let last = LastSaid { said_at_ms: said.said_at_ms };
        let leased = PutOptions::new().with_lease(lease.id());
        let said = self.keys.said(node);
        let txn =
            Txn::new().when([Compare::mod_revision(&*said, CompareOp::Equal, seen)]).and_then([
                TxnOp::put(&*said, wire::encode(&last), None),
                TxnOp::put(self.keys.address(node), wire::encode(&announced), Some(leased)),
            ]);
        // Done twice, the second is found stale: the first was kept.
        let (_, answer) = self.etcd.repeat(&txn).await?;
        Ok(answer.succeeded())
    }

    /// Ends the lease of an address that was replaced. If it cannot be ended, it ends itself.
    async fn end_lease(&self, replaced: &GetResponse) {
        let Some(lease) = replaced.kvs().first().map(KeyValue::lease).filter(|id| *id != 0) else {
            return;
        };
        let revoke = |mut client: Client| async move { client.lease_revoke(lease).await };
        drop(self.etcd.ask(revoke).await);
    }

    async fn addresses(&self) -> Result<BTreeMap<NodeId, Presence>, ReadError> {
        let prefix = self.keys.addresses();
        // `0` comes after `/`.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let mut start = prefix.clone();
        let mut present = BTreeMap::new();
        while present.len() < NODES_MAX {
            let page = GetOptions::new().with_range(&*end).with_limit(PAGE_ADDRESSES);
            let (_, answer) = self.etcd.get(&start, &page).await?;
            for found in answer.kvs() {
                let key = found.key_str().map_err(|error| corrupt(&error))?;
                let node = key.strip_prefix(&*prefix).unwrap_or_default();
                let node: NodeId = node.parse().map_err(|error| corrupt(&error))?;
                let Announced { address, said_at_ms, until_ms } = decode(found)?;
                let ttl = Duration::from_millis(until_ms.saturating_sub(now_ms()));
                start = format!("{key}\0");
                present.insert(node, Presence { address, ttl, said_at_ms });
            }
            if !answer.more() {
                break;
            }
        }
        Ok(present)
    }
}

impl PresenceTable for EtcdPresence {
    fn announce(&self, node: &NodeId, said: &Presence) -> Result<(), AnnounceError> {
        self.etcd.wait(self.keep(node, said))
    }

    fn present(&self) -> Result<BTreeMap<NodeId, Presence>, ReadError> {
        self.etcd.wait(self.addresses())
    }
}

fn decode<T: Wire>(found: &KeyValue) -> Result<T, ReadError> {
    wire::decode(found.value()).map_err(|error| corrupt(&error))
}

fn corrupt(error: &dyn std::error::Error) -> ReadError {
    ReadError::Corrupt { reason: format!("the presence table: {error}") }
}

fn unasked() -> ReadError {
    Fault::Corrupt("etcd did not answer what it was asked".to_owned()).into()
}

fn now_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}
