//! The tools of tpm2-tools as judges: they share no code with the client.

use std::fs;

use heirloom_tpm::credential::Credential;
use heirloom_tpm::key::{
    ATTESTATION_KEY_HANDLE, EndorsementKey, EndorsementKind, STORAGE_ROOT_HANDLE, StorageRoot,
};
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::Opening;
use heirloom_tpm::public::PublicArea;

use crate::world::{MESSAGE, SECRET, World, as_booted, attestation_key};

/// A public area as the tools write it (`TPM2B_PUBLIC`).
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn write_public(world: &World, name: &str, public: &PublicArea) {
    fs::write(world.path(name), sized(public.as_bytes())).unwrap();
}

#[test]
fn the_tools_accept_our_quote_and_nothing_changed_in_it() {
    let Some(world) = World::new() else { return };
    let quote = {
        let tpm = world.tpm();
        tpm.extend(8, &[7; 32]).unwrap();
        let root = StorageRoot::open(&tpm).unwrap();
        let key = attestation_key(&root);
        write_public(&world, "ak.pub", key.public());
        key.quote(&[9; 32], Selection::boot()).unwrap()
    };
    let judge = |attest: &[u8], signature: &[u8], nonce: [u8; 32]| {
        fs::write(world.path("attest"), attest).unwrap();
        fs::write(world.path("signature"), signature).unwrap();
        let nonce = hex::encode(nonce);
        let arguments = ["-u", "ak.pub", "-m", "attest", "-s", "signature", "-q", &nonce];
        world.tool("tpm2_checkquote", &arguments)
    };
    judge(&quote.attest, &quote.signature, [9; 32]).unwrap();
    assert!(judge(&quote.attest, &quote.signature, [8; 32]).is_err());
    let (mut attest, mut signature) = (quote.attest.clone(), quote.signature.clone());
    *attest.last_mut().unwrap() ^= 1;
    *signature.last_mut().unwrap() ^= 1;
    assert!(judge(&attest, &quote.signature, [9; 32]).is_err());
    assert!(judge(&quote.attest, &signature, [9; 32]).is_err());
}

#[test]
fn a_credential_of_the_tools_opens() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let key = attestation_key(&root);
    let endorsement = EndorsementKey::open(&tpm, EndorsementKind::Rsa2048).unwrap();
    write_public(&world, "ek.pub", endorsement.public());
    fs::write(world.path("secret"), SECRET).unwrap();
    let name = hex::encode(key.public().name().as_bytes());
    let arguments = ["-T", "none", "-u", "ek.pub", "-s", "secret", "-n", &name, "-o", "credential"];
    world.tool("tpm2_makecredential", &arguments).unwrap();
    let credential = credential(&fs::read(world.path("credential")).unwrap());
    let opened = key.activate(&endorsement, &credential).unwrap();
    assert!(opened.expose(|bytes| bytes == SECRET));
}

/// Their file: magic, version, then both parts with their lengths.
fn credential(file: &[u8]) -> Credential {
    let (identity, rest) = part(&file[8..]);
    let (seed, _) = part(rest);
    Credential { identity: identity.to_vec(), seed: seed.to_vec() }
}

fn part(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

#[test]
fn the_tools_use_the_key_that_we_let_make() {
    let Some(world) = World::new() else { return };
    let ours = {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        attestation_key(&root);
        let policy = as_booted(&tpm);
        let made = root.make_mac_key(&policy.digest()).unwrap();
        let bytes = made.to_bytes();
        let (public, private) = part(&bytes);
        fs::write(world.path("made.pub"), sized(public)).unwrap();
        fs::write(world.path("made.priv"), private).unwrap();
        let mac = root.mac(&made, Opening::Plain(&policy), MESSAGE).unwrap();
        mac.expose(|mac| mac.to_vec())
    };
    fs::write(world.path("message"), MESSAGE).unwrap();
    let root = format!("{STORAGE_ROOT_HANDLE:#x}");
    let load = ["-C", &root, "-u", "made.pub", "-r", "made.priv", "-c", "made"];
    let mac = |registers: &str| {
        world.tool("tpm2_flushcontext", &["-t"])?;
        world.tool("tpm2_load", &load)?;
        world.tool("tpm2_startauthsession", &["--policy-session", "-S", "session"])?;
        world.tool("tpm2_policypcr", &["-S", "session", "-l", registers])?;
        let made = ["-c", "made", "-p", "session:session", "-o", "mac", "message"];
        let used = world.tool("tpm2_hmac", &made);
        world.tool("tpm2_flushcontext", &["session"])?;
        used.map(|_| fs::read(world.path("mac")).unwrap())
    };
    assert_eq!(mac("sha256:0,8").unwrap(), ours);
    assert!(mac("sha256:0,9").is_err());
    let described = world.tool("tpm2_readpublic", &["-c", &format!("{ATTESTATION_KEY_HANDLE:#x}")]);
    let described = String::from_utf8(described.unwrap()).unwrap();
    assert!(described.contains("restricted") && described.contains("noda"), "{described}");
}
