//! Addresses that expire with a lease, shared by several servers.

use std::time::Duration;

use etcd_client::Client;
use heirloom_etcd::etcd::{ENDPOINTS_MAX, Etcd, EtcdError};
use heirloom_etcd::presence::EtcdPresence;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use heirloom_registry::port::{AnnounceError, Presence, PresenceTable, ReadError};
use tokio::runtime::Runtime;

use crate::fixture::{NETWORK, World};

fn table(world: &World, network: NetworkId) -> EtcdPresence {
    EtcdPresence::new(Etcd::new(world.cluster.endpoints()).unwrap(), network)
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn said(address: &str, ttl: Duration, said_at_ms: u64) -> Presence {
    Presence { address: address.to_owned(), ttl, said_at_ms }
}

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn all_servers_of_a_network_know_what_one_was_told() {
    let Some(mut world) = World::start(1) else { return };
    let (one, two) = (table(&world, NETWORK), table(&world, NETWORK));
    let other = table(&world, NetworkId::new([9; 32]));
    assert_eq!(one.present().unwrap().len(), 0);
    one.announce(&node("n1"), &said("host-1:1", MINUTE, 10)).unwrap();
    two.announce(&node("n2"), &said("host-2:1", MINUTE, 5)).unwrap();
    two.announce(&node("n1"), &said("host-1:2", MINUTE, 11)).unwrap();
    // What is older is refused by all, and changes nothing.
    for stale in [11, 10, 0] {
        let refused = one.announce(&node("n1"), &said("old:1", MINUTE, stale));
        assert_eq!(refused, Err(AnnounceError::Stale), "{stale}");
    }
    let check = |table: &EtcdPresence| {
        let present = table.present().unwrap();
        let found: Vec<_> =
            present.iter().map(|(node, it)| (node.as_str(), &*it.address)).collect();
        assert_eq!(found, [("n1", "host-1:2"), ("n2", "host-2:1")]);
        assert!(present.values().all(|it| it.ttl > MINUTE / 2 && it.ttl <= MINUTE));
    };
    check(&one);
    check(&two);
    assert_eq!(other.present().unwrap().len(), 0);
    world.cluster.restart_all().unwrap();
    check(&one);
}

#[test]
fn an_address_expires_and_an_old_one_does_not_come_back() {
    let Some(world) = World::start(1) else { return };
    let table = table(&world, NETWORK);
    table.announce(&node("n1"), &said("host-1:1", Duration::from_millis(1), 10)).unwrap();
    table.announce(&node("n2"), &said("host-2:1", MINUTE, 10)).unwrap();
    // etcd tells when it has ended the lease.
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let key = format!("heirloom/{NETWORK}/presence/address/n1");
        let mut client = Client::connect(world.cluster.endpoints(), None).await.unwrap();
        let mut stream = client.watch(&*key, None).await.unwrap();
        while client.get(&*key, None).await.unwrap().count() > 0 {
            stream.message().await.unwrap().unwrap();
        }
    });
    let present = table.present().unwrap();
    assert_eq!(present.keys().map(NodeId::as_str).collect::<Vec<_>>(), ["n2"]);
    let refused = table.announce(&node("n1"), &said("old:1", MINUTE, 10));
    assert_eq!(refused, Err(AnnounceError::Stale));
    table.announce(&node("n1"), &said("new:1", MINUTE, 11)).unwrap();
    assert_eq!(table.present().unwrap()[&node("n1")].address, "new:1");
}

/// Leases are few: the one of an address that was replaced ends at once.
#[test]
fn announcing_again_and_again_leaves_one_lease() {
    let Some(world) = World::start(1) else { return };
    let table = table(&world, NETWORK);
    for said_at_ms in 1..=20 {
        table.announce(&node("n1"), &said("host-1:1", MINUTE, said_at_ms)).unwrap();
    }
    let runtime = Runtime::new().unwrap();
    let leases = runtime.block_on(async {
        let mut client = Client::connect(world.cluster.endpoints(), None).await.unwrap();
        client.leases().await.unwrap().leases().len()
    });
    assert_eq!(leases, 1);
}

#[test]
fn garbage_in_the_table_is_corrupt() {
    let Some(world) = World::start(1) else { return };
    let runtime = Runtime::new().unwrap();
    let put = |key: String| {
        runtime.block_on(async {
            let mut client = Client::connect(world.cluster.endpoints(), None).await.unwrap();
            client.put(key, "garbage", None).await.unwrap();
        });
    };
    let table = table(&world, NETWORK);
    put(format!("heirloom/{NETWORK}/presence/said/n1"));
    let refused = table.announce(&node("n1"), &said("host-1:1", MINUTE, 1));
    let corrupt = matches!(refused, Err(AnnounceError::Table(ReadError::Corrupt { .. })));
    assert!(corrupt, "{refused:?}");
    assert_eq!(table.present().unwrap().len(), 0);
    put(format!("heirloom/{NETWORK}/presence/address/n2"));
    let refused = table.present();
    assert!(matches!(refused, Err(ReadError::Corrupt { .. })), "{refused:?}");
}

#[test]
fn what_is_no_endpoint_is_told() {
    let new = |endpoints: &[&str]| {
        let endpoints: Vec<_> = endpoints.iter().map(|&it| it.to_owned()).collect();
        Etcd::new(&endpoints).map(drop)
    };
    assert_eq!(new(&[]), Err(EtcdError::NoEndpoint));
    let (found, limit) = (ENDPOINTS_MAX + 1, ENDPOINTS_MAX);
    let many = vec!["http://127.0.0.1:2379"; found];
    assert_eq!(new(&many), Err(EtcdError::TooMany { found, limit }));
    assert_eq!(new(&many[..limit]), Ok(()));
    for bad in
        ["127.0.0.1:2379", "https://host:2379", "http://host", "http://:port", "http://a b:1"]
    {
        let refused = new(&["http://127.0.0.1:2379", bad]);
        let named = |endpoint: &str| endpoint == bad;
        let right =
            matches!(&refused, Err(EtcdError::Endpoint { endpoint, .. }) if named(endpoint));
        assert!(right, "{bad}: {refused:?}");
    }
}
