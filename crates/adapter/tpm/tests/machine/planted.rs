//! What somebody else puts into a machine's directory or into its TPM, in the place of the
//! machine's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use heirloom_model::identifier::PlatformId;
use heirloom_model::wire;
use heirloom_tpm::key::{ATTESTATION_KEY_HANDLE, STORAGE_ROOT_HANDLE};
use heirloom_tpm::machine::enrolment;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install};
use heirloom_tpm::machine::state::{MachineRecord, RECORD, secret_policy};

use crate::world::World;

fn record(world: &World) -> MachineRecord {
    MachineRecord::read(&world.state()).unwrap()
}

/// The machine with this record in the place of its own, which comes back afterwards.
fn with(world: &World, record: &MachineRecord) -> MachineError {
    let path = world.state().join(RECORD);
    let kept = fs::read(&path).unwrap();
    fs::write(&path, wire::encode(record)).unwrap();
    let refused = world.refusal();
    fs::write(&path, kept).unwrap();
    refused
}

/// Whoever can write the directory, and reach the TPM, has these tools too.
struct Planter<'world> {
    world: &'world World,
    folder: PathBuf,
}

impl<'world> Planter<'world> {
    fn new(world: &'world World) -> Self {
        let folder = world.folder.path().join("planted");
        fs::create_dir_all(&folder).unwrap();
        let record = record(world);
        let policy = secret_policy(&record.authority().unwrap(), &record.platform).digest();
        fs::write(folder.join("policy"), policy.as_bytes()).unwrap();
        fs::write(folder.join("known"), [7; 32]).unwrap();
        Self { world, folder }
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(name);
        command.args(arguments).current_dir(&self.folder);
        command.env("TPM2TOOLS_TCTI", self.world.swtpm.tcti());
        let done = command.output().expect("tpm2-tools: `cargo xtask setup` installs it");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes an object under our storage root with a tool, and the record that has it.
    fn record(&self, tool: &str, arguments: &[&str]) -> MachineRecord {
        drop(self.world.tpm());
        let root = format!("{STORAGE_ROOT_HANDLE:#x}");
        let common = ["-C", &root, "-u", "public", "-r", "private", "-L", "policy"];
        self.tool(tool, &[&common[..], arguments].concat());
        self.world.tpm().flush_leftovers().unwrap();
        let key = ["public", "private"].map(|name| fs::read(self.folder.join(name)).unwrap());
        MachineRecord { key: key.concat(), ..record(self.world) }
    }
}

#[test]
fn a_secret_that_somebody_sealed_and_knows_is_refused() {
    let Some(world) = World::approved() else { return };
    let attributes = "fixedtpm|fixedparent|noda";
    let planted = Planter::new(&world).record("tpm2_create", &["-i", "known", "-a", attributes]);
    let refused = with(&world, &planted);
    let expected = "it is sealed data, which somebody knew, and no key";
    assert!(matches!(refused, MachineError::KeyPlanted { what } if what == expected), "{refused}");
    assert!(world.open().is_ok());
}

#[test]
fn a_key_that_somebody_imported_and_knows_is_refused() {
    let Some(world) = World::approved() else { return };
    // Imported keys can never have `fixedtpm`, and say that they were not made here.
    let arguments = ["-G", "hmac", "-i", "known", "-a", "noda|sign"];
    let planted = Planter::new(&world).record("tpm2_import", &arguments);
    let refused = with(&world, &planted);
    let expected = "it has other attributes: somebody may know it";
    assert!(matches!(refused, MachineError::KeyPlanted { what } if what == expected), "{refused}");
    assert!(world.open().is_ok());
}

/// Each field of the record alone.
#[test]
fn a_record_of_which_one_field_was_changed_opens_nothing_and_destroys_nothing() {
    let Some(world) = World::approved() else { return };
    let own = record(&world);
    let other = AuthorityKey::from_pkcs8(&AuthorityKey::generate().unwrap()).unwrap();
    let authority = other.authority().unwrap().to_sec1().to_vec();
    let under = "it is under another policy";
    for (changed, expected) in [
        (MachineRecord { authority, ..own.clone() }, "ApprovalForged"),
        (MachineRecord { platform: PlatformId::new([1; 32]), ..own.clone() }, "ApprovalForged"),
        (MachineRecord { storage_root: vec![0; 34], ..own.clone() }, "OtherTpm"),
        (MachineRecord { founded: own.founded + 1, ..own.clone() }, "NotCompleted"),
        (MachineRecord { founded: own.founded + 2, ..own.clone() }, "CountersCorrupt"),
    ] {
        let refused = format!("{:?}", with(&world, &changed));
        assert!(refused.starts_with(expected), "{expected}: {refused}");
    }
    // The key is judged by the authority of the record that it stands in.
    let foreign =
        MachineRecord { authority: other.authority().unwrap().to_sec1().to_vec(), ..own.clone() };
    assert!(matches!(foreign.key(), Err(MachineError::KeyPlanted { what }) if what == under));

    // An operator installs an approval above a record that gives another secret, and says that
    // nothing was ever counted.
    let path = world.state().join(RECORD);
    let kept = fs::read(&path).unwrap();
    let changed = MachineRecord { founded: own.founded + 1, ..own };
    fs::write(&path, wire::encode(&changed)).unwrap();
    let approval = world.approval(Earlier::Hold);
    let refused = install(&world.state(), &world.tpm(), &approval);
    assert!(matches!(refused, Err(MachineError::Tpm(_))), "{refused:?}");
    fs::write(&path, kept).unwrap();
    assert!(world.open().is_ok(), "note, counters and key are as they were");
}

#[test]
fn nothing_is_made_above_an_attestation_key_of_somebody_else() {
    let Some(world) = World::new() else { return };
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let planter = Planter::new(&world);
    let (root, place) =
        (format!("{STORAGE_ROOT_HANDLE:#x}"), format!("{ATTESTATION_KEY_HANDLE:#x}"));
    let files = ["-C", &root, "-u", "public", "-r", "private"];
    let template = ["-G", "ecc256:ecdsa-sha256:null", "-a", attributes];
    planter.tool("tpm2_create", &[&files[..], &template].concat());
    planter.tool("tpm2_load", &[&files[..], &["-c", "loaded"]].concat());
    planter.tool("tpm2_evictcontrol", &["-C", "o", "-c", "loaded", &place]);
    world.tpm().flush_leftovers().unwrap();
    let approval = world.approval(Earlier::Hold);
    let refused = install(&world.state(), &world.tpm(), &approval).unwrap_err();
    let text = heirloom_model::causes::with_causes(&refused);
    assert!(text.contains("0x81004802") && text.contains("another value"), "{text}");
    assert!(!world.state().join("tpm-counters").exists(), "nothing was made");
    // Nor does a new machine take it over.
    let authority = world.authority.authority().unwrap();
    fs::remove_file(world.state().join(RECORD)).unwrap();
    let elsewhere = world.state().with_file_name("elsewhere");
    let second = init(&elsewhere, &world.tpm(), "host-2".parse().unwrap(), &authority);
    assert!(matches!(second, Err(MachineError::TpmTaken { .. })), "{second:?}");
}

#[test]
fn a_machine_enrols_only_from_an_approved_host() {
    let Some(mut world) = World::new() else { return };
    let refused = enrolment::request(&world.state(), &world.tpm());
    assert!(matches!(refused, Err(MachineError::NotApproved)), "{refused:?}");
    let approval = world.approval(Earlier::Hold);
    install(&world.state(), &world.tpm(), &approval).unwrap();
    let asked = enrolment::request(&world.state(), &world.tpm()).unwrap();
    // Once more: the same key.
    install(&world.state(), &world.tpm(), &approval).unwrap();
    assert_eq!(enrolment::request(&world.state(), &world.tpm()).unwrap(), asked);
    world.swtpm.lose_power();
    world.tpm().extend(8, &[9; 32]).unwrap();
    let refused = enrolment::request(&world.state(), &world.tpm());
    assert!(matches!(refused, Err(MachineError::HostChanged { .. })), "{refused:?}");
}

/// A staged approval alone starts nothing that was never completed.
#[test]
fn a_machine_without_its_keys_is_completed_by_an_installed_approval_only() {
    let Some(world) = World::new() else { return };
    let approval = world.approval(Earlier::Hold);
    world.put(&approval);
    assert!(matches!(world.refusal(), MachineError::NotCompleted));
    install(&world.state(), &world.tpm(), &approval).unwrap();
    assert!(world.open().is_ok());
}
