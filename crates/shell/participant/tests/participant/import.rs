//! The rules of repair: each refusal by one changed field.

use heirloom_canton::authenticate::recompute;
use heirloom_canton::blob::{CreatedAt, FatContract};
use heirloom_canton::dar;
use heirloom_canton_node::wire::participant::ImportAcsRequest;
use heirloom_participant_shell::client::package;
use tonic::Code;

use crate::world::{ACCEPT, Participant, SYNCHRONIZER, VALIDATION, World, entry, pack, unpack};

/// A participant with contracts, connected to nothing, and what it had.
fn with_contracts(world: &World, contracts: usize) -> (Participant, Vec<u8>) {
    let participant = world.participant("alpha", "3.5.1", "");
    world.connect(&participant).unwrap();
    world.load(&participant, contracts);
    world.disconnect(&participant);
    let snapshot = world.export(&participant).unwrap();
    (participant, snapshot)
}

fn ids(snapshot: &[u8]) -> Vec<String> {
    let contracts = unpack(snapshot);
    contracts.iter().map(|one| one.contract().unwrap().contract_id.to_string()).collect()
}

fn refused(result: Result<(), tonic::Status>, reason: &str) {
    let status = result.unwrap_err();
    assert!(status.message().contains(reason), "{status:?} does not say {reason:?}");
}

#[test]
fn what_was_exported_is_purged_and_imported_again_and_is_the_same() {
    let world = World::new();
    let (alpha, snapshot) = with_contracts(&world, 30);
    let before = world.count(&alpha);
    assert_eq!(before.contracts, 30);
    world.purge(&alpha, ids(&snapshot), false).unwrap();
    assert_eq!(world.count(&alpha).contracts, 0);
    refused(world.purge(&alpha, ids(&snapshot), false), "cannot be purged");
    world.purge(&alpha, ids(&snapshot), true).unwrap();
    world.import(&alpha, snapshot.clone(), VALIDATION).unwrap();
    assert_eq!(world.count(&alpha), before);
    // Again: nothing is new, and nothing moves.
    let end = world.end(&alpha);
    world.import(&alpha, snapshot, VALIDATION).unwrap();
    assert_eq!((world.count(&alpha), world.end(&alpha)), (before, end));
    world.import(&alpha, Vec::new(), VALIDATION).unwrap();
}

#[test]
fn repair_is_refused_while_anything_is_connected() {
    let world = World::new();
    let (alpha, snapshot) = with_contracts(&world, 1);
    world.reconnect(&alpha);
    refused(world.import(&alpha, snapshot.clone(), VALIDATION), "still synchronizers connected");
    refused(world.purge(&alpha, ids(&snapshot), false), "still synchronizers connected");
    world.disconnect(&alpha);
    world.import(&alpha, snapshot, VALIDATION).unwrap();
}

#[test]
fn a_contract_with_one_changed_field_is_refused() {
    let world = World::new();
    let (alpha, snapshot) = with_contracts(&world, 4);
    world.purge(&alpha, ids(&snapshot), false).unwrap();
    let first = unpack(&snapshot).remove(0).contract().unwrap();
    let changed = |change: &dyn Fn(&mut FatContract)| {
        let mut contract = first.clone();
        change(&mut contract);
        contract
    };
    let later = |contract: &mut FatContract| {
        contract.created_at = CreatedAt::from_micros(contract.created_at.micros() + 1).unwrap();
    };
    let check = |contract: &FatContract, mode: i32, reason: &str| {
        let snapshot = pack(&[entry(contract, SYNCHRONIZER, 0)]);
        refused(world.import(&alpha, snapshot, mode), reason);
        assert_eq!(world.count(&alpha).contracts, 0, "{reason}");
    };
    check(&changed(&later), VALIDATION, "is not authentic");
    let other_package = |contract: &mut FatContract| {
        contract.template.package = "00".repeat(32).parse().unwrap();
    };
    check(&changed(&other_package), VALIDATION, "needs package");
    check(&changed(&other_package), ACCEPT, "needs package");
    let other_template = |contract: &mut FatContract| {
        contract.template.name = "Heirloom.Demonstration:Other".parse().unwrap();
    };
    check(&changed(&other_template), VALIDATION, "is no template");
    let other_name = |contract: &mut FatContract| contract.package_name = "other".parse().unwrap();
    check(&changed(&other_name), VALIDATION, "names its package");
    // An observer whom the argument does not name, under the id that such a contract has.
    let types = dar::read(&package::dar().unwrap().bytes).unwrap();
    let stranger = |contract: &mut FatContract| {
        let participant = format!("alpha::{}", namespace_of(contract));
        contract.observers.insert(participant.parse().unwrap());
        contract.contract_id = recompute(contract, &types).unwrap();
    };
    check(&changed(&stranger), VALIDATION, "whom its argument does not name");
    let nowhere = |contract: &mut FatContract| {
        contract.observers.insert("nobody::1220bb".parse().unwrap());
    };
    check(&changed(&nowhere), ACCEPT, "whom no participant hosts");
    let old_id = |contract: &mut FatContract| {
        let mut id = contract.contract_id.as_bytes().to_vec();
        id[34] = 0x01;
        contract.contract_id = heirloom_canton::contract_id::ContractId::from_bytes(&id).unwrap();
    };
    check(&changed(&old_id), ACCEPT, "is not authentic");
    // Unchanged, it is taken; then the same id with other content is not.
    let snapshot = pack(&[entry(&first, SYNCHRONIZER, 0)]);
    world.import(&alpha, snapshot, VALIDATION).unwrap();
    let snapshot = pack(&[entry(&changed(&later), SYNCHRONIZER, 0)]);
    refused(world.import(&alpha, snapshot, ACCEPT), "active already, with other content");
}

fn namespace_of(contract: &FatContract) -> String {
    let party = contract.signatories.first().unwrap().as_party_id().unwrap();
    party.namespace().to_string()
}

#[test]
fn an_entry_with_one_changed_field_is_refused_or_dropped() {
    let world = World::new();
    let (alpha, snapshot) = with_contracts(&world, 4);
    world.purge(&alpha, ids(&snapshot), false).unwrap();
    let first = unpack(&snapshot).remove(0).contract().unwrap();
    // Of another synchronizer: dropped without a word.
    world.import(&alpha, pack(&[entry(&first, "other::1220cc", 0)]), VALIDATION).unwrap();
    assert_eq!(world.count(&alpha).contracts, 0);
    let moved = pack(&[entry(&first, SYNCHRONIZER, 1)]);
    refused(world.import(&alpha, moved, VALIDATION), "reassignment counter 1");
    let mut cut = snapshot.clone();
    cut.truncate(snapshot.len() - 20);
    refused(world.import(&alpha, cut, VALIDATION), "snapshot");
    let unknown = ImportAcsRequest {
        acs_snapshot: snapshot,
        contract_import_mode: Some(VALIDATION),
        synchronizer_id: Some("other::1220cc".to_owned()),
        ..ImportAcsRequest::default()
    };
    refused(world.import_messages(&alpha, vec![unknown]), "is not known");
}

#[test]
fn a_contract_that_was_archived_never_comes_back() {
    let world = World::new();
    let (alpha, snapshot) = with_contracts(&world, 1);
    world.reconnect(&alpha);
    let contract = unpack(&snapshot).remove(0).contract().unwrap();
    archive(&world, &alpha, &contract).unwrap();
    assert_eq!(archive(&world, &alpha, &contract).unwrap_err().code(), Code::NotFound);
    world.disconnect(&alpha);
    refused(world.import(&alpha, snapshot, VALIDATION), "previously archived contract");
}

#[test]
fn a_contract_of_others_only_is_refused() {
    let world = World::new();
    let beta = world.participant("beta", "3.5.1", "");
    world.connect(&beta).unwrap();
    world.load(&beta, 1);
    let foreign = world.export(&beta).unwrap();
    let (alpha, own) = with_contracts(&world, 1);
    world.purge(&alpha, ids(&own), false).unwrap();
    refused(
        world.import(&alpha, foreign, VALIDATION),
        "no stakeholder that this participant hosts",
    );
    world.import(&alpha, own, VALIDATION).unwrap();
}

fn archive(
    world: &World,
    participant: &Participant,
    contract: &FatContract,
) -> Result<(), tonic::Status> {
    use heirloom_canton_node::wire::ledger::command::Command as Kind;
    use heirloom_canton_node::wire::ledger::command_service_client::CommandServiceClient;
    use heirloom_canton_node::wire::ledger::{
        Command, Commands, ExerciseCommand, SubmitAndWaitForTransactionRequest,
    };
    let exercise = ExerciseCommand {
        contract_id: contract.contract_id.to_string(),
        choice: "Archive".to_owned(),
        ..ExerciseCommand::default()
    };
    let commands = Commands {
        user_id: "test".to_owned(),
        command_id: format!("archive-{}", world.end(participant)),
        act_as: contract.signatories.iter().map(ToString::to_string).collect(),
        commands: vec![Command { command: Some(Kind::Exercise(exercise)) }],
        ..Commands::default()
    };
    let request =
        SubmitAndWaitForTransactionRequest { commands: Some(commands), transaction_format: None };
    let mut client = CommandServiceClient::new(world.channel(&participant.ledger));
    world.runtime.block_on(client.submit_and_wait_for_transaction(request)).map(|_| ())
}
