//! A small network in memory: one authority, one manufacturer, some machines.

use std::sync::Mutex;

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{Epoch, SecurityVersion, Serial, Time};
use heirloom_model::digest::{DigestOf, NetworkId, sha256};
use heirloom_model::domain::EpochStart;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::policy::{
    ApplicationRule, AppraisalPolicy, HolderRole, HolderRule, KeyScope, PlatformRule, Policy,
    Sharing, TcbLevel, UpdateMode,
};
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::Statement;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};

/// When the world begins: in 2026.
const START: Time = Time(1_780_000_000);
/// Long after every test.
const END: Time = Time(START.0 + 20 * 24 * 60 * 60);

/// The code of keepers.
pub(crate) const KEEPER: u8 = 0x11;
/// The code of an application.
pub(crate) const APPLICATION: u8 = 0x22;

pub(crate) struct World {
    pub(crate) network: NetworkId,
    pub(crate) domain: DomainId,
    pub(crate) state: Mutex<NetworkState>,
    pub(crate) log: Vec<LogEntry>,
    manufacturer: DevelopmentRoot,
    authority: SigningKey,
}

impl World {
    /// A network whose policy lets [`KEEPER`] hold, and [`APPLICATION`] ask.
    pub(crate) fn new() -> Self {
        let authority = SigningKey::from_seed(Secret::new([1; 32]));
        let manufacturer = DevelopmentRoot::from_seed(&[2; 32], START);
        let keys = vec![authority.public_key()];
        let roles = Role::ALL.map(|role| RoleKeys { role, keys: keys.clone(), threshold: 1 });
        let root = Root {
            network: None,
            serial: Serial(1),
            roles: roles.to_vec(),
            anchors: vec![manufacturer.anchor()],
            not_after: END,
        };
        let network = NetworkId::of(wire::encode(&root).as_slice());
        let mut world = Self {
            network,
            domain: DomainId::new([3; 32]),
            state: Mutex::new(NetworkState::new(network)),
            log: Vec::new(),
            manufacturer,
            authority,
        };
        world.publish(&root);
        world.publish(&EpochStart { network, epoch: Epoch(1), time: START });
        world.publish(&world.manufacturer.endorsements(START));
        world.publish(&world.policy(Serial(1)));
        world
    }

    /// Signs a statement, appends it, and follows it.
    pub(crate) fn publish<T: Statement>(&mut self, statement: &T) {
        let envelope = wire::encode(&Envelope::signed(statement, [&self.authority]));
        let state = self.state.get_mut().expect("nobody panicked");
        let entry = LogEntry::following(&state.position(), envelope);
        assert_eq!(state.apply(&entry), Ok(Applied::Accepted(T::KIND)));
        self.log.push(entry);
    }

    /// The policy of the world's domain, with a given serial.
    pub(crate) fn policy(&self, serial: Serial) -> Policy {
        let measurement = measurement(KEEPER);
        Policy {
            network: self.network,
            domain: self.domain,
            serial,
            sharing: Sharing::Replicated,
            holders_min: 1,
            holders: vec![HolderRule {
                measurement,
                security_version: SecurityVersion(1),
                gives_to: vec![],
                role: HolderRole::Keeper,
            }],
            applications: vec![ApplicationRule {
                application: "wallet".parse().expect("this is a name"),
                measurement: self::measurement(APPLICATION),
                security_version: SecurityVersion(1),
                keys: KeyScope::All,
            }],
            appraisal: AppraisalPolicy {
                platforms: PlatformRule::Any,
                tcb: vec![TcbLevel::UpToDate],
                advisories_accepted: vec![],
                tcb_evaluation_min: 1,
                collateral_grace_seconds: 0,
                tdx: None,
                snp: None,
                nitro: None,
                tpm: None,
                vtpm: None,
                tcb_grace: Vec::new(),
            },
            session_seconds_max: 3_600,
            ephemeral_epochs: 4,
            not_after: END,
            completes: None,
            forget_after_epochs: 1,
            update: UpdateMode::Ask,
        }
    }

    /// Launches code on a machine.
    pub(crate) fn launch(&self, machine: u8, code: u8) -> EmulatedEnclave {
        self.launch_in(LaunchMode::Production, machine, code)
    }

    /// Launches code on a machine in a given mode.
    pub(crate) fn launch_in(&self, mode: LaunchMode, machine: u8, code: u8) -> EmulatedEnclave {
        let host = EmulatedHost::from_seed(&self.manufacturer, &[machine; 32]);
        let secs = Secs {
            measurement: MrEnclave::new([code; 32]),
            signer: MrSigner::new([9; 32]),
            product_id: 1,
            isv_svn: 1,
            attributes: mode.attributes(),
            misc_select: 0,
        };
        let mut count = 0_u64;
        let randomness = move |bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(32) {
                count += 1;
                let block = sha256(&[&[machine, code], &count.to_be_bytes()]);
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        };
        host.launch(secs, Box::new(randomness))
    }
}

/// The measurement of a code of this world.
pub(crate) fn measurement(code: u8) -> Measurement {
    Measurement::Sgx(MrEnclave::new([code; 32]))
}
