//! A platform for unit tests, with the rules of SGX for seal keys.

use std::cell::Cell;

use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::{DomainId, PlatformId};
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::sealed::{CpuSvn, SealPolicy, SealRecipe};
use heirloom_model::secret::Secret;

use crate::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use crate::sealing::sgx_recipe;

pub(crate) const DOMAIN: DomainId = DomainId::new([0xd0; 32]);

pub(crate) struct FakePlatform {
    pub(crate) identity: PlatformIdentity,
    counter: Cell<u64>,
}

impl FakePlatform {
    pub(crate) fn new() -> Self {
        let identity = PlatformIdentity {
            measurement: Measurement::Sgx(MrEnclave::new([1; 32])),
            signer: MrSigner::new([2; 32]),
            product_id: 0,
            isv_svn: 5,
            cpu_svn: CpuSvn::new([7; 16]),
            debug: false,
            platform: PlatformId::new([3; 32]),
        };
        Self { identity, counter: Cell::new(0) }
    }

    pub(crate) fn with(change: impl FnOnce(&mut PlatformIdentity)) -> Self {
        let mut platform = Self::new();
        change(&mut platform.identity);
        platform
    }
}

impl FakePlatform {
    /// INIT and MODE64BIT, and DEBUG if it is.
    fn flags(&self) -> u8 {
        0b101 | u8::from(self.identity.debug) << 1
    }

    fn code(&self) -> [u8; 32] {
        let code = self.identity.measurement;
        *code.as_bytes().first_chunk().expect("every measurement has 32 bytes")
    }

    /// The machine's secret is its name: nobody lies to a fake.
    fn report_mac(&self, target: &[u8; 32], body: &[u8]) -> [u8; 16] {
        let mac = sha256(&[b"report", self.identity.platform.as_bytes(), target, body]);
        *mac.first_chunk().unwrap()
    }
}

impl Platform for FakePlatform {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        Ok(self.identity)
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(Sealing::Recorded)
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        Ok(SealRecipe::Sgx(sgx_recipe(&self.identity, key_id)))
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        let SealRecipe::Sgx(request) = recipe else {
            return Err(PlatformError::Unsupported("seal recipes of other kinds than SGX"));
        };
        let own = &self.identity;
        if request.isv_svn > own.isv_svn {
            let (asked, own) = (request.isv_svn, own.isv_svn);
            return Err(PlatformError::IsvSvnTooHigh { asked, own });
        }
        let asked = request.cpu_svn.as_bytes();
        if asked.iter().zip(own.cpu_svn.as_bytes()).any(|(asked, own)| asked > own) {
            let (asked, own) = (request.cpu_svn, own.cpu_svn);
            return Err(PlatformError::CpuSvnTooHigh { asked, own });
        }
        let code = match request.policy {
            SealPolicy::Measurement => own.measurement.to_string(),
            SealPolicy::Signer => own.signer.to_string(),
        };
        let debug = request.flags_mask & 2 != 0 && own.debug;
        let key = sha256(&[
            own.platform.as_bytes(),
            code.as_bytes(),
            &[u8::from(debug)],
            &minicbor::to_vec(recipe).unwrap(),
        ]);
        Ok(Secret::from_slice(&key[..16]).unwrap())
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        Ok(Evidence::SgxDcap(report_data.as_bytes().to_vec()))
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        let mut target = [0; ReportTarget::BYTES];
        target[..32].copy_from_slice(&self.code());
        target[32] = self.flags();
        Ok(ReportTarget::new(target))
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        let own = &self.identity;
        let mut report = [0; LocalReport::BYTES];
        let mut put = |at: usize, field: &[u8]| report[at..][..field.len()].copy_from_slice(field);
        put(0, own.cpu_svn.as_bytes());
        put(48, &[self.flags()]);
        put(64, &self.code());
        put(128, own.signer.as_bytes());
        put(256, &own.product_id.to_le_bytes());
        put(258, &own.isv_svn.to_le_bytes());
        put(320, report_data.as_bytes());
        let mac = self.report_mac(target.as_bytes().first_chunk().unwrap(), &report[..384]);
        report[416..].copy_from_slice(&mac);
        Ok(LocalReport::new(report))
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        let (body, rest) = report.as_bytes().split_at(384);
        if rest[32..] == self.report_mac(&self.code(), body) {
            return Ok(());
        }
        Err(PlatformError::ReportRefused)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        for chunk in bytes.chunks_mut(32) {
            self.counter.set(self.counter.get() + 1);
            let block = sha256(&[b"random", &self.counter.get().to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

/// A file of the repository's shared vectors, if they are there.
pub(crate) fn shared_vector(path: &str) -> Option<serde_json::Value> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3)?;
    let bytes = std::fs::read_to_string(root.join("../shared/vectors").join(path)).ok()?;
    Some(serde_json::from_str(&bytes).unwrap())
}

#[test]
fn a_report_is_for_one_enclave_on_one_machine() {
    let (asker, data) = (FakePlatform::new(), ReportData::new([7; 64]));
    let other = |number| Measurement::Sgx(MrEnclave::new([number; 32]));
    let teller = FakePlatform::with(|identity| identity.measurement = other(9));
    let report = teller.report(&asker.report_target().unwrap(), &data).unwrap();
    assert_eq!(asker.verify_report(&report), Ok(()));
    assert_eq!(teller.verify_report(&report), Err(PlatformError::ReportRefused));
    let elsewhere = FakePlatform::with(|identity| identity.platform = PlatformId::new([4; 32]));
    assert_eq!(elsewhere.verify_report(&report), Err(PlatformError::ReportRefused));
    for at in 0..384 {
        let mut changed = *report.as_bytes();
        changed[at] ^= 1;
        let changed = LocalReport::new(changed);
        assert_eq!(asker.verify_report(&changed), Err(PlatformError::ReportRefused));
    }
}
