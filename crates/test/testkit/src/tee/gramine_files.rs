//! Gramine's files over an emulated CPU.

use std::collections::BTreeMap;

use heirloom_emulated::cpu::{Cpu, FuseKeys};
use heirloom_emulated::provisioning::{DevelopmentRoot, FIRST_CPU_SVN, PckRequest};
use heirloom_emulated::quote::QuotingEnclave;
use heirloom_launcher::report::{LaunchMode, Secs, TargetInfo};
use heirloom_model::counter::Time;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{ReportData, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::{CpuSvn, SealPolicy, SgxSealRecipe};

use super::fuse::{Files, Node};

/// What is wrong with a file.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It is not for us.
    Denied,
    /// It has other content.
    Content(Vec<u8>),
    /// Takes this many bytes of a write.
    Short(usize),
    /// Somebody else writes report data before it is read.
    Race,
}

/// One process of Gramine on one machine.
pub struct GramineFiles {
    cpu: Cpu,
    quoting: QuotingEnclave,
    /// The machine, as its quotes name it.
    pub platform: PlatformId,
    /// The enclave.
    pub secs: Secs,
    target: Vec<u8>,
    report_data: Vec<u8>,
    /// What is wrong with which file.
    pub faults: BTreeMap<&'static str, Fault>,
    /// Files that were read, in order.
    pub reads: Vec<String>,
}

/// The enclave that there is, unless a test says otherwise.
pub const SECS: Secs = Secs {
    measurement: MrEnclave::new([4; 32]),
    signer: MrSigner::new([5; 32]),
    product_id: 7,
    isv_svn: 3,
    attributes: heirloom_launcher::report::Attributes { flags: 5, xfrm: 0xe7 },
    misc_select: 0,
};

const NAMES: [&str; 8] = [
    "attestation_type",
    "my_target_info",
    "target_info",
    "user_report_data",
    "report",
    "quote",
    "keys",
    KEY,
];
const KEY: &str = "keys/_sgx_mrenclave";

impl GramineFiles {
    /// On some machine.
    pub fn new() -> Self {
        Self::on(&[2; 32])
    }

    /// On the machine of a seed.
    pub fn on(seed: &[u8; 32]) -> Self {
        Self::certified(&DevelopmentRoot::from_seed(&[1; 32], Time(0)), seed)
    }

    /// On the machine of a seed, certified by this manufacturer.
    pub fn certified(root: &DevelopmentRoot, seed: &[u8; 32]) -> Self {
        assert_eq!(SECS.attributes, LaunchMode::Production.attributes());
        let fuses = FuseKeys::from_seed(seed);
        let certificate = root.certify(&PckRequest {
            ppid: fuses.ppid(),
            public_key: fuses.pck_public(),
            cpu_svn: FIRST_CPU_SVN,
        });
        let cpu = Cpu::new(fuses, FIRST_CPU_SVN);
        let quoting = QuotingEnclave::new(&cpu, &certificate);
        Self {
            cpu,
            quoting,
            platform: certificate.platform(),
            secs: SECS,
            target: Vec::new(),
            report_data: vec![0; 64],
            faults: BTreeMap::new(),
            reads: Vec::new(),
        }
    }

    /// Loads the next microcode. Quotes show it only after [`Self::certify_again`].
    pub fn update_microcode(&mut self) -> CpuSvn {
        self.cpu.update_microcode().expect("tests update a few times")
    }

    /// Has the machine certified as it stands now.
    pub fn certify_again(&mut self, root: &DevelopmentRoot) {
        let fuses = self.cpu.fuses();
        let certificate = root.certify(&PckRequest {
            ppid: fuses.ppid(),
            public_key: fuses.pck_public(),
            cpu_svn: self.cpu.cpu_svn(),
        });
        self.quoting = QuotingEnclave::new(&self.cpu, &certificate);
    }

    /// EGETKEY as Gramine asks: at present versions, without identifier.
    pub fn seal_key(&self) -> Vec<u8> {
        let recipe = SgxSealRecipe {
            policy: SealPolicy::Measurement,
            isv_svn: self.secs.isv_svn,
            cpu_svn: self.cpu.cpu_svn(),
            flags_mask: u64::MAX,
            xfrm_mask: 0,
            misc_mask: u32::MAX,
            key_id: Nonce::new([0; 32]),
        };
        let key = self.cpu.seal_key(&self.secs, &recipe).expect("it asks for what it has");
        key.expose(|key| key.to_vec())
    }

    fn report(&self, target: &TargetInfo) -> heirloom_launcher::report::Report {
        let data = ReportData::new(
            self.report_data.clone().try_into().expect("writes of 64 bytes are taken"),
        );
        self.cpu.report(&self.secs, target, &data)
    }
}

impl Default for GramineFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl Files for GramineFiles {
    fn node(&mut self, path: &str) -> Result<Node, i32> {
        if matches!(self.faults.get(path), Some(Fault::Missing)) || !NAMES.contains(&path) {
            return Err(libc::ENOENT);
        }
        Ok(if path == "keys" { Node::Directory } else { Node::File })
    }

    fn open(&mut self, path: &str) -> Result<(), i32> {
        match self.faults.get(path) {
            Some(Fault::Denied) => Err(libc::EACCES),
            _ => Ok(()),
        }
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        self.reads.push(path.to_owned());
        match self.faults.get(path) {
            Some(Fault::Content(content)) => return Ok(content.clone()),
            Some(Fault::Race) => self.report_data = vec![0xee; 64],
            _ => {}
        }
        match path {
            "attestation_type" => Ok(b"dcap".to_vec()),
            "my_target_info" => Ok(self.secs.target_info().to_bytes().as_bytes().to_vec()),
            "target_info" => Ok(self.target.clone()),
            "user_report_data" => Ok(self.report_data.clone()),
            "report" => {
                let target =
                    ReportTarget::new(self.target.clone().try_into().map_err(|_| libc::EINVAL)?);
                let target = TargetInfo::from_bytes(&target).map_err(|_| libc::EINVAL)?;
                Ok(self.report(&target).to_bytes().to_vec())
            }
            "quote" => {
                let report = self.report(&self.quoting.target_info());
                Ok(self.quoting.quote(&self.cpu, &report).expect("the report is for it"))
            }
            KEY => Ok(self.seal_key()),
            _ => Err(libc::EISDIR),
        }
    }

    fn write(&mut self, path: &str, data: &[u8]) -> Result<usize, i32> {
        if let Some(Fault::Short(taken)) = self.faults.get(path) {
            return Ok(*taken);
        }
        match (path, data.len()) {
            ("target_info", 512) => self.target = data.to_vec(),
            ("user_report_data", 64) => self.report_data = data.to_vec(),
            ("target_info" | "user_report_data", _) => return Err(libc::EINVAL),
            _ => return Err(libc::EACCES),
        }
        Ok(data.len())
    }
}
