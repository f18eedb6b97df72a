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

use crate::fuse::{Files, Node};

/// What is wrong with a file.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Missing,
    Denied,
    Content(Vec<u8>),
    /// Takes this many bytes of a write.
    Short(usize),
    /// Somebody else writes report data before it is read.
    Race,
}

/// One process of Gramine on one machine.
pub(crate) struct GramineFiles {
    cpu: Cpu,
    quoting: QuotingEnclave,
    pub(crate) platform: PlatformId,
    pub(crate) secs: Secs,
    target: Vec<u8>,
    report_data: Vec<u8>,
    pub(crate) faults: BTreeMap<&'static str, Fault>,
    pub(crate) reads: Vec<String>,
}

pub(crate) const SECS: Secs = Secs {
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
    pub(crate) fn new() -> Self {
        Self::on(&[2; 32])
    }

    /// On the machine of a seed.
    pub(crate) fn on(seed: &[u8; 32]) -> Self {
        assert_eq!(SECS.attributes, LaunchMode::Production.attributes());
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
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

    pub(crate) fn update_microcode(&mut self) -> CpuSvn {
        self.cpu.update_microcode().unwrap()
    }

    /// EGETKEY as Gramine asks: at present versions, without identifier.
    pub(crate) fn seal_key(&self) -> Vec<u8> {
        let recipe = SgxSealRecipe {
            policy: SealPolicy::Measurement,
            isv_svn: self.secs.isv_svn,
            cpu_svn: self.cpu.cpu_svn(),
            flags_mask: u64::MAX,
            xfrm_mask: 0,
            misc_mask: u32::MAX,
            key_id: Nonce::new([0; 32]),
        };
        let key = self.cpu.seal_key(&self.secs, &recipe).unwrap();
        key.expose(|key| key.to_vec())
    }

    fn report(&self, target: &TargetInfo) -> heirloom_launcher::report::Report {
        let data = ReportData::new(self.report_data.clone().try_into().unwrap());
        self.cpu.report(&self.secs, target, &data)
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
                Ok(self.quoting.quote(&self.cpu, &report).unwrap())
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
