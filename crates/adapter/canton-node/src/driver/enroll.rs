//! The target's keys, and its name.

use std::collections::BTreeSet;

use heirloom_canton::fingerprint::{
    Fingerprint, fingerprint_of_encryption_spki, fingerprint_of_spki,
};
use heirloom_canton::key::{EncryptionScheme, SigningScheme};
use heirloom_model::participant::Enrolled;
use heirloom_model::party::ParticipantId;
use heirloom_participant::custodian::Custodian;
use heirloom_participant::custodian::key::{KeyHandle, KeyRequest, KeyScheme, KeyUsage};
use heirloom_upgrade::port::{DriverError, ParticipantCall};

use crate::driver::fault::{custodian_error, node_error, unexpected};
use crate::driver::work::{Work, is_there, keep};
use crate::driver::{Driver, Keeping, WantedKey, quiet, ready};
use crate::node::{KeyEntry, KeyMaterial, Node, Place, Standing};

/// Gives the target its keys and its name, and connects it to where contracts go.
pub(crate) fn enroll(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
) -> Result<Enrolled, DriverError> {
    driver.expect_settings(task)?;
    let target = &driver.target;
    let present = target.keys().map_err(node_error)?;
    let is_named = target.id().map_err(node_error)?.is_some();
    if !is_named {
        // A target that has its name has its keys: the survey showed whose they are.
        let custodian = match &driver.keeping {
            Keeping::Custodian(custodian) => Some(custodian.as_ref()),
            Keeping::Participant => None,
        };
        claim(work, &driver.settings.keys, custodian, &present)?;
    }
    let mut keys = Vec::new();
    for wanted in &driver.settings.keys {
        let material = match &driver.keeping {
            Keeping::Custodian(custodian) => {
                let is_registered = present.iter().any(|key| key.name == wanted.label.as_str());
                let handle = held(custodian.as_ref(), wanted, is_named || is_registered)?;
                registered(target, custodian.as_ref(), wanted, &handle, &present)?
            }
            Keeping::Participant => generated(target, wanted, &present)?,
        };
        keys.push((wanted.usage, material));
    }
    let root = keys.iter().find(|(usage, _)| *usage == KeyUsage::Namespace);
    let root = root.map(|(_, key)| key.clone()).expect("the settings have one key for each use");
    let participant = name(driver, task, &root)?;
    let namespace = participant.namespace();
    let place = Place::Own;
    let roots = target.delegations(&place, &namespace).map_err(node_error)?;
    if !roots.contains(&root.fingerprint()) {
        target.delegate_root(&root).map_err(node_error)?;
    }
    // The namespace key signs topology; it is no key of the member.
    let own = keys.into_iter().filter(|(usage, _)| *usage != KeyUsage::Namespace);
    let own: Vec<KeyMaterial> = own.map(|(_, key)| key).collect();
    let expected: BTreeSet<Fingerprint> = own.iter().map(KeyMaterial::fingerprint).collect();
    match target.owned_keys(&place, &participant).map_err(node_error)? {
        None => target.own_keys(&participant, &root, &own).map_err(node_error)?,
        Some(found) if found == expected => {}
        Some(found) => {
            let show = |keys: &BTreeSet<Fingerprint>| {
                keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            let (expected, found) = (show(&expected), show(&found));
            return Err(DriverError::Unexpected { expected, found });
        }
    }
    let (named, _) = ready(target)?;
    unexpected("target", &participant, &named)?;
    join(driver)?;
    Ok(Enrolled { target: participant, custodian: driver.custodian_kind() })
}

/// Makes the labels those of this plan, before a key has one of them. A key that is there already
/// is of an earlier move: whoever has its target would have this one's name.
fn claim(
    work: &Work,
    keys: &[WantedKey],
    custodian: Option<&dyn Custodian>,
    present: &[KeyEntry],
) -> Result<(), DriverError> {
    let path = work.labels();
    let lines = keys.iter().map(|key| format!("{} {}\n", key.usage, key.label));
    let labels: String = lines.collect();
    if is_there(&path)? {
        // Those of another configuration are refused here.
        return keep(&path, labels.as_bytes());
    }
    for WantedKey { label, .. } in keys {
        let taken = |place: &str| DriverError::Unexpected {
            expected: format!("no key {label} in {place} before this plan makes it"),
            found: "one that an earlier plan or somebody else made: choose another `label`"
                .to_owned(),
        };
        if present.iter().any(|entry| entry.name == label.as_str()) {
            return Err(taken("the target"));
        }
        let Some(custodian) = custodian else { continue };
        if custodian.find(label).map_err(|error| custodian_error(&error))?.is_some() {
            return Err(taken(&custodian.describe().place));
        }
    }
    keep(&path, labels.as_bytes())
}

/// The wanted key in the custodian. It is made only for a target that cannot have it yet: another
/// custodian than that of the target must not get keys that nobody ever uses.
fn held(
    custodian: &dyn Custodian,
    wanted: &WantedKey,
    is_expected: bool,
) -> Result<KeyHandle, DriverError> {
    let WantedKey { usage, scheme, label } = wanted;
    let request = KeyRequest { label: label.clone(), usage: *usage, scheme: *scheme };
    if !is_expected {
        return custodian.create(&request).map_err(|error| custodian_error(&error));
    }
    let found = custodian.find(label).map_err(|error| custodian_error(&error))?;
    let handle = found.ok_or_else(|| DriverError::Missing {
        what: format!(
            "key {label} in {} (the target has this key and the custodian does not: is this the \
             right custodian?)",
            custodian.describe().place
        ),
    })?;
    if !handle.answers(&request) {
        return Err(DriverError::Unexpected {
            expected: format!("key {label}, {scheme} for {usage}"),
            found: format!("a key {label}, {} for {}", handle.scheme, handle.usage),
        });
    }
    Ok(handle)
}

/// A key of the custodian, which the target can use.
fn registered(
    target: &Node,
    custodian: &dyn Custodian,
    wanted: &WantedKey,
    handle: &KeyHandle,
    present: &[KeyEntry],
) -> Result<KeyMaterial, DriverError> {
    let WantedKey { usage, label, .. } = wanted;
    let expected = fingerprint(custodian, handle)?;
    let material = match present.iter().find(|entry| entry.name == label.as_str()) {
        Some(entry) => {
            if !entry.is_for(*usage) {
                return Err(DriverError::Unexpected {
                    expected: format!("key {label} for {usage}"),
                    found: format!("a key {label} of the target that is for something else"),
                });
            }
            let id = entry.custodian_id.clone().unwrap_or_default();
            unexpected("identifier of the key", &handle.id.as_str(), &id.as_str())?;
            entry.material.clone()
        }
        None => {
            target.register_key(handle.id.as_str(), label.as_str(), *usage).map_err(node_error)?
        }
    };
    // The server read the public key from its custodian; this side read it itself.
    unexpected(&format!("fingerprint of {label}"), &expected, &material.fingerprint())?;
    Ok(material)
}

/// The name of a key, computed from what the custodian gives.
pub(crate) fn fingerprint(
    custodian: &dyn Custodian,
    handle: &KeyHandle,
) -> Result<Fingerprint, DriverError> {
    let public = custodian.public(handle).map_err(|error| custodian_error(&error))?;
    let Some(scheme) = signing(handle.scheme) else {
        return Ok(fingerprint_of_encryption_spki(public.as_bytes()));
    };
    fingerprint_of_spki(scheme, public.as_bytes()).map_err(|error| DriverError::Corrupt {
        what: format!("key {}", handle.label),
        reason: error.to_string(),
    })
}

/// A key that the target made itself.
fn generated(
    target: &Node,
    wanted: &WantedKey,
    present: &[KeyEntry],
) -> Result<KeyMaterial, DriverError> {
    let WantedKey { usage, scheme, label } = wanted;
    let named: Vec<_> = present.iter().filter(|entry| entry.name == label.as_str()).collect();
    match named.as_slice() {
        [] => {}
        [entry] if entry.is_for(*usage) && entry.custodian_id.is_none() => {
            return Ok(entry.material.clone());
        }
        _ => {
            return Err(DriverError::Unexpected {
                expected: format!("one key {label} for {usage}, made by the target"),
                found: format!("{} keys of that name, or one of another kind", named.len()),
            });
        }
    }
    let unsupported =
        || DriverError::Refused(format!("a participant makes no key of {scheme} for {usage}"));
    let encryption = match scheme {
        KeyScheme::EciesP256 => Some(EncryptionScheme::P256),
        KeyScheme::Rsa2048 => Some(EncryptionScheme::Rsa2048),
        _ => None,
    };
    let (signing, encryption) = match (usage, signing(*scheme), encryption) {
        (KeyUsage::Encryption, None, Some(encryption)) => (SigningScheme::P256, encryption),
        (KeyUsage::Encryption, ..) | (_, None, _) => return Err(unsupported()),
        (_, Some(signing), _) => (signing, EncryptionScheme::Rsa2048),
    };
    target.generate_key(label.as_str(), *usage, signing, encryption).map_err(node_error)
}

fn signing(scheme: KeyScheme) -> Option<SigningScheme> {
    match scheme {
        KeyScheme::Ed25519 => Some(SigningScheme::Ed25519),
        KeyScheme::P256 => Some(SigningScheme::P256),
        KeyScheme::P384 => Some(SigningScheme::P384),
        KeyScheme::Secp256k1 => Some(SigningScheme::Secp256k1),
        KeyScheme::MlDsa65 => Some(SigningScheme::MlDsa65),
        KeyScheme::Rsa2048 | KeyScheme::EciesP256 => None,
    }
}

/// Gives the target its name, which is that of its first key. A target that has another one is
/// somebody else's.
fn name(
    driver: &Driver,
    task: ParticipantCall<'_>,
    root: &KeyMaterial,
) -> Result<ParticipantId, DriverError> {
    let namespace = root.fingerprint().to_namespace();
    let participant = ParticipantId::new(&driver.settings.identifier, &namespace)
        .map_err(|error| DriverError::Refused(error.to_string()))?;
    if participant == task.moved.source {
        return Err(DriverError::Refused(format!("{participant} is the source itself")));
    }
    let target = &driver.target;
    if target.id().map_err(node_error)?.is_none() {
        if let Standing::Ready { participant: found, .. } = target.standing().map_err(node_error)? {
            let what = format!("{} says it is {found} and has no name", target.name());
            return Err(DriverError::Corrupt { what, reason: "it contradicts itself".to_owned() });
        }
        target.name_it(&participant).map_err(node_error)?;
    }
    let found = target.id().map_err(node_error)?;
    let found = found.map_or_else(String::new, |found| found.to_string());
    unexpected("target", &participant.as_str(), &found.as_str())?;
    Ok(participant)
}

/// Lets the target know every synchronizer of the plan, and connects it. A synchronizer that it
/// does not know is reached as the source reaches it.
fn join(driver: &Driver) -> Result<(), DriverError> {
    let known = driver.target.registrations().map_err(node_error)?;
    let known: BTreeSet<_> = known.into_iter().filter_map(|one| one.synchronizer).collect();
    let of_source = driver.source.registrations().map_err(node_error)?;
    for wanted in driver.destinations() {
        if known.contains(&wanted) {
            continue;
        }
        let like = of_source.iter().find(|one| one.synchronizer.as_ref() == Some(&wanted));
        let like = like.ok_or_else(|| DriverError::Missing {
            what: format!("description of {wanted}, which neither source nor target knows"),
        })?;
        driver.target.connect_like(like).map_err(node_error)?;
    }
    quiet::connect(&driver.target, &driver.destinations())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use heirloom_model::participant::CustodianKind;
    use heirloom_model::secret::SecretBytes;
    use heirloom_participant::custodian::CustodianError;
    use heirloom_participant::custodian::key::{
        Algorithm, Description, KeyId, KeyState, Label, PrivateKey, PublicKeyDer, Signature,
    };
    use heirloom_participant::custodian::probe::Abilities;

    use super::*;

    /// Finds and makes keys, and does nothing else.
    #[derive(Default)]
    struct Shelf {
        keys: RefCell<Vec<KeyHandle>>,
    }

    impl Shelf {
        fn unsupported<T>(&self, what: &str) -> Result<T, CustodianError> {
            let place = self.describe().place;
            Err(CustodianError::Unsupported { place, what: what.to_owned() })
        }
    }

    impl Custodian for Shelf {
        fn describe(&self) -> Description {
            Description { kind: CustodianKind::Software, place: "a shelf".to_owned() }
        }

        fn abilities(&self) -> Result<Abilities, CustodianError> {
            self.unsupported("abilities")
        }

        fn create(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError> {
            let KeyRequest { label, usage, scheme } = request.clone();
            let id = label.as_str().parse().unwrap();
            let made = KeyHandle { id, label, usage, scheme };
            self.keys.borrow_mut().push(made.clone());
            Ok(made)
        }

        fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError> {
            Ok(self.keys.borrow().iter().find(|key| key.label == *label).cloned())
        }

        fn open(&self, _: &KeyId) -> Result<KeyHandle, CustodianError> {
            self.unsupported("open")
        }

        fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError> {
            Ok(self.keys.borrow().clone())
        }

        fn public(&self, _: &KeyHandle) -> Result<PublicKeyDer, CustodianError> {
            self.unsupported("public")
        }

        fn state(&self, _: &KeyHandle) -> Result<KeyState, CustodianError> {
            self.unsupported("state")
        }

        fn sign(&self, _: &KeyHandle, _: Algorithm, _: &[u8]) -> Result<Signature, CustodianError> {
            self.unsupported("sign")
        }

        fn decrypt(
            &self,
            _: &KeyHandle,
            _: Algorithm,
            _: &[u8],
        ) -> Result<SecretBytes, CustodianError> {
            self.unsupported("decrypt")
        }

        fn import(&self, _: &KeyRequest, _: &PrivateKey) -> Result<KeyHandle, CustodianError> {
            self.unsupported("import")
        }
    }

    fn wanted() -> WantedKey {
        WantedKey {
            usage: KeyUsage::Protocol,
            scheme: KeyScheme::P256,
            label: "bank-protocol".parse().unwrap(),
        }
    }

    #[test]
    fn a_key_of_an_earlier_plan_is_not_taken_and_one_of_this_plan_is() {
        use heirloom_model::digest::PlanDigest;
        let folder = tempfile::tempdir().unwrap();
        let work = |plan: u8| Work::open(folder.path(), PlanDigest::new([plan; 32])).unwrap();
        let (shelf, keys) = (Shelf::default(), [wanted()]);
        let claim = |plan: u8, keys: &[WantedKey]| claim(&work(plan), keys, Some(&shelf), &[]);
        claim(1, &keys).unwrap();
        // A crash before or after the key was made: it is this plan's.
        claim(1, &keys).unwrap();
        held(&shelf, &keys[0], false).unwrap();
        claim(1, &keys).unwrap();
        let taken = claim(2, &keys);
        assert!(matches!(taken, Err(DriverError::Unexpected { .. })), "{taken:?}");
        assert!(!work(2).labels().exists());
        let other = [WantedKey { label: "other-protocol".parse().unwrap(), ..wanted() }];
        claim(2, &other).unwrap();
        // What a plan claimed does not change with the configuration.
        let changed = claim(1, &other);
        assert!(matches!(changed, Err(DriverError::Refused(_))), "{changed:?}");
    }

    #[test]
    fn a_key_that_the_target_has_is_looked_for_and_never_made() {
        let wanted = wanted();
        let shelf = Shelf::default();
        let missing = held(&shelf, &wanted, true);
        assert!(matches!(missing, Err(DriverError::Missing { .. })), "{missing:?}");
        assert_eq!(shelf.keys().unwrap(), Vec::new());
        let made = held(&shelf, &wanted, false).unwrap();
        assert_eq!(held(&shelf, &wanted, true).unwrap(), made);
        let other = WantedKey { scheme: KeyScheme::P384, ..wanted };
        let found = held(&shelf, &other, true);
        assert!(matches!(found, Err(DriverError::Unexpected { .. })), "{found:?}");
        assert_eq!(shelf.keys().unwrap(), [made]);
    }
}
