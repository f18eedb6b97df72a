//! SEV-SNP: reports under AMD's root keys.

use heirloom_model::appraisal::{AliasCheck, PLATFORM_INFO, Smt, SnpMinimum, SnpRule};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::AnchorId;
use heirloom_model::evidence::{Certificate as Der, SnpEvidence, TrustAnchor};
use heirloom_model::measurement::{Measurement, TeeKind};

use super::judge::{self, Question, reference};
use crate::account::{Step, Trail};
use crate::cache::{Memory, MemoryKey};
use crate::error::AppraiseError;
use crate::result::{AttestationResult, Grace, Host, Tcb};
use crate::revocation::{ListMaker, RevocationLists};
use crate::snp::{self, Report, SnpClaims, SnpError, VerifiedVek};

/// AMD's word about its keys, and which of them are verified.
#[derive(Clone, Debug)]
pub(super) struct Amd {
    pub(super) revocations: RevocationLists,
    pub(super) memory: Memory<VerifiedVek>,
}

/// A report that verifies, before anybody looked at what it says.
pub(super) struct Verified {
    pub(super) claims: SnpClaims,
    pub(super) anchor: AnchorId,
    /// When its certificates expire.
    pub(super) expires: Time,
}

impl Default for Amd {
    fn default() -> Self {
        Self { revocations: RevocationLists::new(ListMaker::Amd), memory: Memory::default() }
    }
}

impl Amd {
    /// Appraises a report of a guest.
    pub(super) fn snp(
        &mut self,
        anchors: &[TrustAnchor],
        evidence: &SnpEvidence,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let SnpEvidence { report, certificates } = evidence;
        let report = trail.check(Step::Format, Report::parse(report), |report| {
            format!("SEV-SNP report of version {}", report.version())
        })?;
        let verified = self.verify(anchors, report, certificates, question.now, trail)?;
        let report = verified.claims.report();
        question.report_data(&report.report_data(), trail)?;
        let rule = judge::rule(trail, TeeKind::Snp, question.policy.snp.as_ref())?;
        let (expires, grace) = self.judge(&verified, rule, question, trail)?;
        Ok(AttestationResult {
            measurement: Measurement::Snp(report.launch_digest()),
            signed: None,
            security_version: SecurityVersion(u64::from(report.guest_svn())),
            host: verified.host(),
            anchor: verified.anchor,
            tcb: verified.tcb(),
            advisories: Vec::new(),
            report_data: report.report_data(),
            expires,
            grace,
        })
    }

    /// Verifies a report: the path of its key from memory if it was verified before.
    pub(super) fn verify(
        &mut self,
        anchors: &[TrustAnchor],
        report: Report<'_>,
        certificates: &[Der],
        now: Time,
        trail: &mut Trail,
    ) -> Result<Verified, AppraiseError> {
        let key = MemoryKey::of(certificates.iter().map(|certificate| certificate.0.as_slice()));
        let vek = match self.memory.get(&key) {
            Some(known) => known.chain().holds_at(now).map(|()| known.clone()).map_err(Into::into),
            None => snp::verify_vek(anchors, certificates, now).map_err(AppraiseError::from),
        };
        let vek = trail.check(Step::Chain, vek, |vek| {
            let (since, until) = (vek.chain().since(), vek.chain().until());
            format!("{:?} of {:?}, valid from {since} until {until}", vek.kind(), vek.generation())
        })?;
        let anchor = TrustAnchor::Snp(vek.chain().anchor().to_vec()).id();
        self.revocations.not_revoked(anchor, certificates, trail)?;
        let steps = [Step::Attributes, Step::Measured, Step::KeyIdentity, Step::Signature];
        let claims = snp::verify(&report, &vek, now);
        let claims = trail.block(&steps, claims, |step, claims| match step {
            Step::Attributes => format!("guest policy {:#x}", report.policy()),
            Step::Measured => Measurement::Snp(report.launch_digest()).to_string(),
            Step::KeyIdentity => format!("{:?} with {}", claims.kind(), claims.tcb()),
            _ => "by the certified key".to_owned(),
        })?;
        let expires = vek.chain().until();
        self.memory.put(key, vek);
        Ok(Verified { claims, anchor, expires })
    }

    /// Judges what the policy says about guests. Answers until when the result holds, and by which
    /// grace.
    pub(super) fn judge(
        &self,
        verified: &Verified,
        rule: &SnpRule,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<(Time, Option<Grace>), AppraiseError> {
        let demand = question.demand(rule.revocation);
        let listed = self.revocations.demanded(verified.anchor, demand, trail)?;
        question.host(verified.host(), trail)?;
        let (report, claims) = (verified.claims.report(), &verified.claims);
        let tcb = check_firmware(claims, &rule.tcb_min);
        trail.check(Step::Tcb, tcb, |()| verified.tcb().to_string())?;
        let kind = if rule.keys.contains(&claims.kind()) {
            Ok(claims.kind())
        } else {
            Err(AppraiseError::KeyKindNotAccepted { found: claims.kind() })
        };
        trail.check(Step::KeyKind, kind, |kind| match claims.provider() {
            Some(provider) => format!("{kind:?} of {provider}"),
            None => format!("{kind:?}"),
        })?;
        let (found, most) = (report.vmpl(), rule.vmpl_max);
        let level = if found <= u32::from(most) {
            Ok(found)
        } else {
            Err(AppraiseError::PrivilegeTooLow { found, most })
        };
        trail.check(Step::Privilege, level, |found| format!("{found}, at most {most}"))?;
        let identity = (Step::IdentityKey, "identity key");
        reference(trail, identity, &rule.id_key, &report.id_key(), judge::text)?;
        let author = (Step::AuthorKey, "author key");
        reference(trail, author, &rule.author_key, &report.author_key(), judge::text)?;
        let host = (Step::HostData, "host data");
        reference(trail, host, &rule.host_data, &report.host_data(), judge::text)?;
        let threads = match rule.smt {
            Smt::Refused if report.allows_smt() || report.smt_enabled() => {
                Err(AppraiseError::ThreadsNotAccepted)
            }
            Smt::Refused | Smt::Accepted => Ok(report.allows_smt()),
        };
        trail.check(Step::Threads, threads, |allows| {
            if *allows { "allowed by the guest's policy".to_owned() } else { "excluded".to_owned() }
        })?;
        let info = check_info(report, rule);
        trail.check(Step::PlatformInfo, info, |found| format!("{found:#x}"))?;
        let (until, grace) = listed;
        Ok((verified.expires.min(until), grace))
    }
}

impl Verified {
    pub(super) fn host(&self) -> Host {
        self.claims.platform().map_or(Host::Unknown, Host::Known)
    }

    pub(super) fn tcb(&self) -> Tcb {
        Tcb::Snp(self.claims.generation(), self.claims.tcb())
    }
}

/// What the machine says about itself: nothing that nobody knows, and that it looked for aliases of
/// its memory if that is demanded.
fn check_info(report: Report<'_>, rule: &SnpRule) -> Result<u64, SnpError> {
    let found = report.platform_info();
    let bits = found & !PLATFORM_INFO & !rule.unknown_info;
    if bits != 0 {
        return Err(SnpError::UnknownPlatformInfo { bits });
    }
    match rule.alias_check {
        AliasCheck::Demanded if !report.alias_checked() => Err(SnpError::AliasesNotChecked),
        AliasCheck::Demanded | AliasCheck::Skipped => Ok(found),
    }
}

/// Each part of the firmware must be as new as the policy demands of its generation: what runs, and
/// what launched the guest, since an update mends nothing that was measured or kept before it.
fn check_firmware(claims: &SnpClaims, least: &[SnpMinimum]) -> Result<(), AppraiseError> {
    let generation = claims.generation();
    let least = least.iter().find(|least| least.generation == generation);
    let least = least.ok_or(AppraiseError::GenerationNotAccepted { found: generation })?;
    let (found, launch) = (claims.tcb(), claims.launch_tcb());
    let parts = [
        ("FMC", found.fmc, least.fmc),
        ("boot loader", found.bootloader, least.bootloader),
        ("PSP operating system", found.tee, least.tee),
        ("SNP firmware", found.snp, least.snp),
        ("microcode", found.microcode, least.microcode),
        ("FMC at launch", launch.fmc, least.fmc),
        ("boot loader at launch", launch.bootloader, least.bootloader),
        ("PSP operating system at launch", launch.tee, least.tee),
        ("SNP firmware at launch", launch.snp, least.snp),
        ("microcode at launch", launch.microcode, least.microcode),
    ];
    match parts.into_iter().find(|(_, found, least)| found < least) {
        Some((component, found, least)) => {
            Err(AppraiseError::FirmwareTooOld { component, found, least })
        }
        None => Ok(()),
    }
}
