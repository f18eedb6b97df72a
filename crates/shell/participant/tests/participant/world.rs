//! A synchronizer and participants as processes, and clients of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_canton::acs::{ActiveContract, Entry, FrameReader, write_frame};
use heirloom_canton::blob::FatContract;
use heirloom_canton_node::wire::ledger::CreatedEvent;
use heirloom_canton_node::wire::ledger::GetLedgerEndRequest;
use heirloom_canton_node::wire::ledger::state_service_client::StateServiceClient;
use heirloom_canton_node::wire::participant::participant_repair_service_client::ParticipantRepairServiceClient;
use heirloom_canton_node::wire::participant::participant_status_service_client::ParticipantStatusServiceClient;
use heirloom_canton_node::wire::participant::synchronizer_connectivity_service_client::SynchronizerConnectivityServiceClient;
use heirloom_canton_node::wire::participant::{
    DisconnectAllSynchronizersRequest, ExportAcsRequest, ImportAcsRequest,
    ListRegisteredSynchronizersRequest, ModifySynchronizerRequest, ParticipantStatusRequest,
    ParticipantStatusResponse, PurgeContractsRequest, ReconnectSynchronizersRequest,
    SynchronizerConnectionConfig,
};
use heirloom_participant_shell::client::{self, ClientError, load};
use heirloom_participant_shell::command::{Connect, Ledger, Load};
use prost::Message;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

const PROGRAM: &str = env!("CARGO_BIN_EXE_heirloom-participant");
/// How long a process may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(2);
/// The mode that looks at everything.
pub(crate) const VALIDATION: i32 = 2;
/// The mode that looks at little.
pub(crate) const ACCEPT: i32 = 1;
pub(crate) const SYNCHRONIZER: &str = "global::1220aa";

pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) runtime: Runtime,
    synchronizer: Option<Process>,
    address: String,
}

/// A process that ends with its owner.
struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) struct Participant {
    name: String,
    process: Option<Process>,
    pub(crate) admin: String,
    pub(crate) ledger: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(34, "[\"ed25519\", \"p256\"]")
    }

    pub(crate) fn with(protocol_version: u32, signing: &str) -> Self {
        let mut world = Self {
            directory: tempfile::tempdir().unwrap(),
            runtime: Runtime::new().unwrap(),
            synchronizer: None,
            address: String::new(),
        };
        let text = format!(
            "id = \"{SYNCHRONIZER}\"\nprotocol_version = {protocol_version}\ndata = \"log\"\n\
             listen = \"127.0.0.1:0\"\nsigning = {signing}\nencryption = [\"rsa2048\"]\n"
        );
        fs::write(world.path("synchronizer.toml"), text).unwrap();
        world.start_synchronizer();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start_synchronizer(&mut self) {
        let process = self.spawn("synchronizer", "synchronizer");
        self.address = format!("http://{}", self.said("synchronizer", "started"));
        self.synchronizer = Some(process);
    }

    pub(crate) fn kill_synchronizer(&mut self) {
        self.synchronizer = None;
        // It comes again where participants look for it.
        let address = self.address.trim_start_matches("http://").to_owned();
        let text = fs::read_to_string(self.path("synchronizer.toml")).unwrap();
        fs::write(self.path("synchronizer.toml"), text.replace("127.0.0.1:0", &address)).unwrap();
    }

    /// A participant that is not started yet.
    pub(crate) fn describe(&self, name: &str, version: &str, more: &str) -> Participant {
        let folder = self.path(&format!("{name}-keys"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let secret = self.path(&format!("{name}.secret"));
        fs::write(&secret, [7; 32]).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let custodian = format!(
            "kind = \"software\"\nfolder = \"{name}-keys\"\nkey_file = \"{name}.secret\"\n"
        );
        fs::write(self.path(&format!("{name}-custodian.toml")), custodian).unwrap();
        let text = format!(
            "name = \"{name}\"\nversion = \"{version}\"\ndata = \"{name}-data\"\n\
             admin_listen = \"127.0.0.1:0\"\nledger_listen = \"127.0.0.1:0\"\n\
             custodian = \"{name}-custodian.toml\"\n{more}\n"
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
        Participant {
            name: name.to_owned(),
            process: None,
            admin: String::new(),
            ledger: String::new(),
        }
    }

    /// A participant that serves and is connected to nothing.
    pub(crate) fn participant(&self, name: &str, version: &str, more: &str) -> Participant {
        let mut participant = self.describe(name, version, more);
        self.start(&mut participant);
        participant
    }

    pub(crate) fn start(&self, participant: &mut Participant) {
        let name = participant.name.clone();
        participant.process = Some(self.spawn("serve", &name));
        self.said(&name, "started");
        participant.admin = format!("http://{}", self.said(&name, "admin"));
        participant.ledger = format!("http://{}", self.said(&name, "ledger"));
    }

    /// Starts one that does not come up, and gives its last words.
    pub(crate) fn start_refused(&self, participant: &Participant) -> String {
        let name = &participant.name;
        let mut process = self.spawn("serve", name);
        assert!(!process.child.wait().unwrap().success());
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap()
    }

    fn spawn(&self, verb: &str, name: &str) -> Process {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args([verb, "--config"]).arg(self.path(&format!("{name}.toml")));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Process { child: child.unwrap() }
    }

    /// What a process says about itself.
    fn said(&self, name: &str, code: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(self.path(&format!("{name}.log"))).unwrap();
            let start = format!("heirloom-participant: {code}: ");
            if let Some(found) = log.lines().find_map(|line| line.strip_prefix(&start)) {
                return found.to_owned();
            }
            assert!(Instant::now() < deadline && !log.contains(": failed: "), "{log}");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub(crate) fn connect(&self, participant: &Participant) -> Result<(), ClientError> {
        let asked = Connect {
            admin: participant.admin.clone(),
            synchronizer: self.address.clone(),
            alias: "global".to_owned(),
        };
        self.runtime.block_on(client::connect(&asked)).map(|_| ())
    }

    pub(crate) fn load(&self, participant: &Participant, contracts: usize) -> Vec<String> {
        let asked = Self::load_of(participant, contracts, &["alice", "bob", "carol"]);
        self.runtime.block_on(load::load(&asked)).unwrap().parties
    }

    pub(crate) fn load_of(participant: &Participant, contracts: usize, parties: &[&str]) -> Load {
        Load {
            admin: participant.admin.clone(),
            ledger: participant.ledger.clone(),
            contracts,
            dar: Vec::new(),
            parties: parties.iter().map(ToString::to_string).collect(),
            batch: 10,
            owner: None,
        }
    }

    pub(crate) fn count(&self, participant: &Participant) -> client::Counted {
        let asked = Ledger { ledger: participant.ledger.clone() };
        self.runtime.block_on(client::contracts(&asked)).unwrap()
    }

    pub(crate) fn channel(&self, url: &str) -> Channel {
        self.runtime.block_on(Endpoint::from_shared(url.to_owned()).unwrap().connect()).unwrap()
    }

    pub(crate) fn disconnect(&self, participant: &Participant) {
        let mut client =
            SynchronizerConnectivityServiceClient::new(self.channel(&participant.admin));
        let request = DisconnectAllSynchronizersRequest {};
        self.runtime.block_on(client.disconnect_all_synchronizers(request)).unwrap();
    }

    pub(crate) fn reconnect(&self, participant: &Participant) {
        let mut client =
            SynchronizerConnectivityServiceClient::new(self.channel(&participant.admin));
        let request = ReconnectSynchronizersRequest { ignore_failures: false };
        self.runtime.block_on(client.reconnect_synchronizers(request)).unwrap();
    }

    pub(crate) fn connect_by_hand_only(&self, participant: &Participant) {
        let mut client =
            SynchronizerConnectivityServiceClient::new(self.channel(&participant.admin));
        let request = ListRegisteredSynchronizersRequest::default();
        let listed = self.runtime.block_on(client.list_registered_synchronizers(request));
        let first = listed.unwrap().into_inner().results.pop().unwrap();
        let mut config = SynchronizerConnectionConfig::decode(first.config.as_slice()).unwrap();
        config.manual_connect = true;
        let request = ModifySynchronizerRequest {
            new_config: config.encode_to_vec(),
            ..ModifySynchronizerRequest::default()
        };
        self.runtime.block_on(client.modify_synchronizer(request)).unwrap();
    }

    pub(crate) fn status(&self, participant: &Participant) -> ParticipantStatusResponse {
        let mut client = ParticipantStatusServiceClient::new(self.channel(&participant.admin));
        let asked = client.participant_status(ParticipantStatusRequest {});
        self.runtime.block_on(asked).unwrap().into_inner()
    }

    pub(crate) fn end(&self, participant: &Participant) -> i64 {
        let mut client = StateServiceClient::new(self.channel(&participant.ledger));
        let asked = client.get_ledger_end(GetLedgerEndRequest {});
        self.runtime.block_on(asked).unwrap().into_inner().offset
    }

    pub(crate) fn export(&self, participant: &Participant) -> Result<Vec<u8>, Status> {
        let ledger_offset = self.end(participant);
        let request = ExportAcsRequest { ledger_offset, ..ExportAcsRequest::default() };
        self.export_with(participant, request)
    }

    pub(crate) fn export_with(
        &self,
        participant: &Participant,
        request: ExportAcsRequest,
    ) -> Result<Vec<u8>, Status> {
        let mut client = ParticipantRepairServiceClient::new(self.channel(&participant.admin));
        self.runtime.block_on(async {
            let mut stream = client.export_acs(request).await?.into_inner();
            let mut snapshot = Vec::new();
            while let Some(chunk) = stream.message().await? {
                snapshot.extend(chunk.chunk);
            }
            Ok(snapshot)
        })
    }

    pub(crate) fn import(
        &self,
        participant: &Participant,
        snapshot: Vec<u8>,
        mode: i32,
    ) -> Result<(), Status> {
        let first = ImportAcsRequest {
            acs_snapshot: snapshot,
            contract_import_mode: Some(mode),
            synchronizer_id: Some(SYNCHRONIZER.to_owned()),
            ..ImportAcsRequest::default()
        };
        self.import_messages(participant, vec![first])
    }

    pub(crate) fn import_messages(
        &self,
        participant: &Participant,
        messages: Vec<ImportAcsRequest>,
    ) -> Result<(), Status> {
        let mut client = ParticipantRepairServiceClient::new(self.channel(&participant.admin));
        let asked = client.import_acs(tokio_stream::iter(messages));
        self.runtime.block_on(asked).map(|_| ())
    }

    pub(crate) fn purge(
        &self,
        participant: &Participant,
        contract_ids: Vec<String>,
        ignore_already_purged: bool,
    ) -> Result<(), Status> {
        let mut client = ParticipantRepairServiceClient::new(self.channel(&participant.admin));
        let request = PurgeContractsRequest {
            synchronizer_alias: "global".to_owned(),
            contract_ids,
            ignore_already_purged,
        };
        self.runtime.block_on(client.purge_contracts(request)).map(|_| ())
    }
}

impl Participant {
    /// The number of its process.
    pub(crate) fn pid(&self) -> String {
        self.process.as_ref().unwrap().child.id().to_string()
    }

    /// As a power cut does it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// The entries of a snapshot.
pub(crate) fn unpack(snapshot: &[u8]) -> Vec<ActiveContract> {
    let unpacked = flate2::read::MultiGzDecoder::new(snapshot);
    FrameReader::new(unpacked)
        .map(|frame| match Entry::decode(&frame.unwrap()).unwrap() {
            Entry::Current(active) => active,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A snapshot of entries.
pub(crate) fn pack(entries: &[ActiveContract]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for entry in entries {
        let mut frame = Vec::new();
        write_frame(&mut frame, entry.encode());
        out.write_all(&frame).unwrap();
    }
    out.finish().unwrap()
}

/// An entry of a contract, with or without changes.
pub(crate) fn entry(contract: &FatContract, synchronizer: &str, counter: u64) -> ActiveContract {
    let event = CreatedEvent {
        contract_id: contract.contract_id.to_string(),
        created_event_blob: contract.encode(),
        ..CreatedEvent::default()
    };
    let synchronizer = synchronizer.parse().unwrap();
    ActiveContract::new(&event.encode_to_vec(), &synchronizer, counter).unwrap()
}

/// Asks again and again until it is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it takes too long until {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
