//! The shapes of messages that versions do not share.

use heirloom_canton_node::wire::older;
use heirloom_canton_node::wire::older::party_management_service_client::PartyManagementServiceClient;
use heirloom_canton_node::wire::older::synchronizer_connectivity_service_client::SynchronizerConnectivityServiceClient;
use heirloom_canton_node::wire::participant::participant_status_response::Kind;
use heirloom_canton_node::wire::participant::{ExportAcsRequest, ImportAcsRequest};
use tonic::Code;

use crate::world::{SYNCHRONIZER, VALIDATION, World, unpack};

fn first(snapshot: &[u8], synchronizer: Option<&str>) -> ImportAcsRequest {
    ImportAcsRequest {
        acs_snapshot: snapshot.to_vec(),
        contract_import_mode: Some(VALIDATION),
        synchronizer_id: synchronizer.map(str::to_owned),
        ..ImportAcsRequest::default()
    }
}

#[test]
fn since_3_5_a_synchronizer_is_named_once() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.5.1", "");
    world.connect(&alpha).unwrap();
    world.load(&alpha, 3);
    world.disconnect(&alpha);
    let snapshot = world.export(&alpha).unwrap();
    let status = world.import_messages(&alpha, vec![first(&snapshot, None)]).unwrap_err();
    assert!(status.message().contains("synchronizer_id is missing"), "{status:?}");
    let twice = vec![first(&snapshot, Some(SYNCHRONIZER)), first(&[], Some(SYNCHRONIZER))];
    let status = world.import_messages(&alpha, twice).unwrap_err();
    assert!(status.message().contains("only the first message"), "{status:?}");
    let (front, back) = snapshot.split_at(snapshot.len() / 2);
    let rest = ImportAcsRequest { acs_snapshot: back.to_vec(), ..ImportAcsRequest::default() };
    world.import_messages(&alpha, vec![first(front, Some(SYNCHRONIZER)), rest]).unwrap();
}

#[test]
fn until_3_4_parties_are_named_and_every_message_is_whole() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.4.11", "");
    world.connect(&alpha).unwrap();
    let parties = world.load(&alpha, 3);
    world.disconnect(&alpha);
    let status = world.export(&alpha).unwrap_err();
    assert!(status.message().contains("at least one party"), "{status:?}");
    let request = ExportAcsRequest {
        party_ids: parties,
        ledger_offset: world.end(&alpha),
        ..ExportAcsRequest::default()
    };
    let snapshot = world.export_with(&alpha, request).unwrap();
    assert_eq!(unpack(&snapshot).len(), 3);
    let named = vec![first(&snapshot, Some(SYNCHRONIZER))];
    let status = world.import_messages(&alpha, named).unwrap_err();
    assert!(status.message().contains("not known before 3.5"), "{status:?}");
    let (front, back) = snapshot.split_at(snapshot.len() / 2);
    let bare = ImportAcsRequest { acs_snapshot: back.to_vec(), ..ImportAcsRequest::default() };
    let status = world.import_messages(&alpha, vec![first(front, None), bare]).unwrap_err();
    assert!(status.message().contains("all messages have the same"), "{status:?}");
    world.import_messages(&alpha, vec![first(front, None), first(back, None)]).unwrap();
}

#[test]
fn a_3_3_exports_in_the_service_of_parties_and_has_ids_of_version_11() {
    let world = World::with(33, "[\"ed25519\"]");
    let alpha = world.participant("alpha", "3.3.0", "");
    world.connect(&alpha).unwrap();
    let parties = world.load(&alpha, 3);
    let status = world.export(&alpha).unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let request = older::ExportAcsRequest {
        party_ids: parties,
        ledger_offset: world.end(&alpha),
        ..older::ExportAcsRequest::default()
    };
    let mut client = PartyManagementServiceClient::new(world.channel(&alpha.admin));
    let snapshot = world.runtime.block_on(async {
        let mut stream = client.export_acs(request).await.unwrap().into_inner();
        let mut snapshot = Vec::new();
        while let Some(chunk) = stream.message().await.unwrap() {
            snapshot.extend(chunk.chunk);
        }
        snapshot
    });
    for active in unpack(&snapshot) {
        let id = active.contract().unwrap().contract_id.to_string();
        assert_eq!(id.get(66..70), Some("ca11"), "{id}");
    }
    let mut client = SynchronizerConnectivityServiceClient::new(world.channel(&alpha.admin));
    let asked = client.list_connected_synchronizers(older::ListConnectedSynchronizersRequest {});
    let listed = world.runtime.block_on(asked).unwrap().into_inner().connected_synchronizers;
    assert!(listed.iter().all(|one| one.healthy && one.synchronizer_id == SYNCHRONIZER));
    let Some(Kind::Status(status)) = world.status(&alpha).kind else { panic!("it is somebody") };
    let names: Vec<_> =
        status.connected_synchronizers.iter().map(|one| &one.physical_synchronizer_id).collect();
    assert_eq!((listed.len(), names), (1, vec![&SYNCHRONIZER.to_owned()]));
    assert_eq!(status.supported_protocol_versions, [33]);
}

#[test]
fn a_participant_refuses_a_protocol_that_it_does_not_speak() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.3.0", "");
    let error = world.connect(&alpha).unwrap_err().to_string();
    assert!(error.contains("protocol version 34"), "{error}");
}
