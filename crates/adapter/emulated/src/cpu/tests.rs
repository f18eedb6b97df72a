use heirloom_model::digest::Nonce;
use heirloom_model::measurement::{MrEnclave, MrSigner};

use super::*;
use heirloom_launcher::report::LaunchMode;

const SVN: CpuSvn = CpuSvn::new([2; 16]);

fn cpu(seed: u8) -> Cpu {
    Cpu::new(FuseKeys::from_seed(&[seed; 32]), SVN)
}

fn secs() -> Secs {
    Secs {
        measurement: MrEnclave::new([1; 32]),
        signer: MrSigner::new([2; 32]),
        product_id: 7,
        isv_svn: 3,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    }
}

fn recipe() -> SgxSealRecipe {
    SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: 3,
        cpu_svn: SVN,
        flags_mask: u64::MAX,
        xfrm_mask: u64::MAX,
        misc_mask: u32::MAX,
        key_id: Nonce::new([9; 32]),
    }
}

/// RFC 4493 §4, examples 1 and 2.
#[test]
fn the_mac_is_aes_cmac() {
    let key = [
        0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f,
        0x3c,
    ];
    assert_eq!(hex::encode(cmac(&key, b"")), "bb1d6929e95937287fa37d129b756746");
    let block = hex::decode("6bc1bee22e409f96e93d7e117393172a").unwrap();
    assert_eq!(hex::encode(cmac(&key, &block)), "070a16b46b4d4144f79bdd9dd04a287c");
}

#[test]
fn a_seal_key_depends_on_each_thing_that_the_manual_names() {
    let key = cpu(1).seal_key(&secs(), &recipe()).unwrap();
    assert!(key.same_as(&cpu(1).seal_key(&secs(), &recipe()).unwrap()));
    let mut lower = [2; 16];
    lower[15] = 1;
    let other_recipes = [
        SgxSealRecipe { policy: SealPolicy::Signer, ..recipe() },
        SgxSealRecipe { isv_svn: 2, ..recipe() },
        SgxSealRecipe { cpu_svn: CpuSvn::new(lower), ..recipe() },
        SgxSealRecipe { key_id: Nonce::new([8; 32]), ..recipe() },
        SgxSealRecipe { xfrm_mask: 1, ..recipe() },
        SgxSealRecipe { flags_mask: 0, ..recipe() },
    ];
    for (at, other) in other_recipes.iter().enumerate() {
        assert!(!key.same_as(&cpu(1).seal_key(&secs(), other).unwrap()), "recipe {at}");
    }
    let other_enclaves = [
        Secs { measurement: MrEnclave::new([3; 32]), ..secs() },
        Secs { product_id: 8, ..secs() },
        Secs { attributes: LaunchMode::Debug.attributes(), ..secs() },
        Secs { misc_select: 1, ..secs() },
    ];
    for (at, other) in other_enclaves.iter().enumerate() {
        assert!(!key.same_as(&cpu(1).seal_key(other, &recipe()).unwrap()), "enclave {at}");
    }
    assert!(!key.same_as(&cpu(2).seal_key(&secs(), &recipe()).unwrap()), "another CPU");
    // A higher security version of the same code opens what a lower one sealed.
    let higher = Secs { isv_svn: 4, ..secs() };
    assert!(key.same_as(&cpu(1).seal_key(&higher, &recipe()).unwrap()));
    let mut owned = cpu(1);
    owned.owner_epoch = [1; 16];
    assert!(!key.same_as(&owned.seal_key(&secs(), &recipe()).unwrap()), "another owner epoch");
}

#[test]
fn no_mask_takes_init_and_debug_out() {
    let debug = Secs { attributes: LaunchMode::Debug.attributes(), ..secs() };
    for flags_mask in [0, FLAG_INIT, !FLAG_DEBUG, u64::MAX] {
        let recipe = SgxSealRecipe { flags_mask, ..recipe() };
        let (one, other) = (cpu(1).seal_key(&secs(), &recipe), cpu(1).seal_key(&debug, &recipe));
        assert!(!one.unwrap().same_as(&other.unwrap()), "{flags_mask:#x}");
    }
}

#[test]
fn versions_above_ones_own_are_refused() {
    let asked = |recipe: &SgxSealRecipe| cpu(1).seal_key(&secs(), recipe).err();
    assert_eq!(
        asked(&SgxSealRecipe { isv_svn: 4, ..recipe() }),
        Some(KeyError::InvalidIsvSvn { asked: 4, own: 3 })
    );
    for at in 0..16 {
        // Higher in one component is higher, even if all others are lower.
        let mut components = [0; 16];
        components[at] = 3;
        let cpu_svn = CpuSvn::new(components);
        assert_eq!(
            asked(&SgxSealRecipe { cpu_svn, ..recipe() }),
            Some(KeyError::InvalidCpuSvn { asked: cpu_svn, own: SVN })
        );
    }
}

#[test]
fn a_microcode_update_adds_one_and_ends_at_the_end() {
    let mut cpu = cpu(1);
    let key = cpu.seal_key(&secs(), &recipe()).unwrap();
    let next = cpu.update_microcode().unwrap();
    assert_eq!(next.as_bytes()[0], 3);
    assert!(key.same_as(&cpu.seal_key(&secs(), &recipe()).unwrap()));
    assert_eq!(next_cpu_svn(&CpuSvn::new([0xff; 16])), None);
}

#[test]
fn only_the_target_on_the_same_cpu_believes_a_report() {
    let (cpu_one, target) = (cpu(1), Secs { measurement: MrEnclave::new([5; 32]), ..secs() });
    let data = ReportData::new([6; 64]);
    let report = cpu_one.report(&secs(), &target.target_info(), &data);
    let verified = cpu_one.verify_report(&target, &report).unwrap();
    assert_eq!(verified.body().measurement(), secs().measurement);
    assert_eq!(verified.body().signer(), secs().signer);
    assert_eq!(verified.body().report_data(), data);
    assert_eq!((verified.body().product_id(), verified.body().isv_svn()), (7, 3));
    assert_eq!(cpu_one.verify_report(&secs(), &report), Err(ForeignReport), "another enclave");
    assert_eq!(cpu(2).verify_report(&target, &report), Err(ForeignReport), "another CPU");
    let debug = Secs { attributes: LaunchMode::Debug.attributes(), ..target };
    assert_eq!(cpu_one.verify_report(&debug, &report), Err(ForeignReport), "the debug twin");
    let bytes = report.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes;
        changed[at] ^= 1;
        let refused = cpu_one.verify_report(&target, &Report::from_bytes(&changed));
        assert_eq!(refused, Err(ForeignReport), "byte {at}");
    }
}
