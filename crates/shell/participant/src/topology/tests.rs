use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use heirloom_canton_node::wire::crypto::SigningKeyUsage;
use heirloom_canton_node::wire::protocol::enums::ParticipantPermission;
use heirloom_canton_node::wire::protocol::namespace_delegation::CanSignAllMappings;
use heirloom_canton_node::wire::protocol::party_to_participant::HostingParticipant;
use heirloom_canton_node::wire::protocol::{SynchronizerTrustCertificate, VettedPackages};
use heirloom_participant::custodian::spki;

use super::*;

const ADD: TopologyChangeOp = TopologyChangeOp::AddReplace;

struct Key {
    pair: Ed25519KeyPair,
    public: SigningPublicKey,
    name: String,
}

impl Key {
    fn new(number: u8, usage: SigningKeyUsage) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap();
        let der = spki::compose(KeyScheme::Ed25519, pair.public_key().as_ref()).unwrap();
        let public = crypto::signing_key(KeyScheme::Ed25519, &[usage.into()], der.as_bytes());
        let name = crypto::fingerprint(KeyScheme::Ed25519, &der).to_string();
        Self { pair, public, name }
    }

    fn sign(&self, hash: &Multihash) -> Signature {
        let signature = self.pair.sign(hash.as_bytes());
        crypto::signature(KeyScheme::Ed25519, &self.name, signature.as_ref()).unwrap()
    }
}

/// A participant with its keys.
struct Owner {
    root: Key,
    auth: Key,
    id: ParticipantId,
}

impl Owner {
    fn new(name: &str, number: u8) -> Self {
        let root = Key::new(number, SigningKeyUsage::Namespace);
        let auth = Key::new(number + 100, SigningKeyUsage::SequencerAuthentication);
        let id = ParticipantId::new(name, &root.name.parse().unwrap()).unwrap();
        Self { root, auth, id }
    }

    fn delegation(&self) -> Mapping {
        Mapping::NamespaceDelegation(NamespaceDelegation {
            namespace: self.root.name.clone(),
            target_key: Some(self.root.public.clone()),
            is_root_delegation: false,
            restriction: Some(Restriction::CanSignAllMappings(CanSignAllMappings {})),
        })
    }

    fn keys(&self) -> Mapping {
        let key = Some(public_key::Key::SigningPublicKey(self.auth.public.clone()));
        let public_keys = vec![PublicKey { key }];
        Mapping::OwnerToKeyMapping(OwnerToKeyMapping { member: member(&self.id), public_keys })
    }

    fn hosting(&self, hosts: &[&Owner], threshold: u32) -> Mapping {
        let participants = hosts.iter().map(|host| HostingParticipant {
            participant_uid: host.id.to_string(),
            permission: ParticipantPermission::Submission.into(),
            onboarding: None,
        });
        Mapping::PartyToParticipant(PartyToParticipant {
            party: format!("alice::{}", self.root.name),
            threshold,
            participants: participants.collect(),
            party_signing_keys: None,
        })
    }

    fn stand(&self, topology: &mut Topology) {
        take(topology, &signed(self.delegation(), 1, &[&self.root])).unwrap();
        take(topology, &signed(self.keys(), 1, &[&self.root, &self.auth])).unwrap();
    }
}

fn signed(mapping: Mapping, serial: u32, keys: &[&Key]) -> SignedTopologyTransaction {
    let transaction = transaction_bytes(ADD, serial, mapping);
    let hash = hash_of(&transaction);
    let signatures = keys.iter().map(|key| key.sign(&hash)).collect();
    SignedTopologyTransaction { transaction, signatures, ..SignedTopologyTransaction::default() }
}

fn take(topology: &mut Topology, next: &SignedTopologyTransaction) -> Result<(), TopologyRefusal> {
    match topology.assess(next, &Demands::default())? {
        Assessed::New(next) => topology.accept(*next),
        Assessed::Known => {}
    }
    Ok(())
}

fn refusal(topology: &Topology, next: &SignedTopologyTransaction) -> TopologyRefusal {
    topology.assess(next, &Demands::default()).unwrap_err()
}

#[test]
fn owners_stand_by_their_own_signatures_only() {
    let (alpha, beta) = (Owner::new("alpha", 1), Owner::new("beta", 2));
    let mut topology = Topology::default();
    let delegation = signed(alpha.delegation(), 1, &[&alpha.root]);
    // Nobody's keys stand yet.
    let early = signed(alpha.keys(), 1, &[&alpha.root, &alpha.auth]);
    assert!(matches!(refusal(&topology, &early), TopologyRefusal::UnknownSigner { .. }));
    take(&mut topology, &delegation).unwrap();
    assert_eq!(topology.assess(&delegation, &Demands::default()), Ok(Assessed::Known));
    let without_proof = signed(alpha.keys(), 1, &[&alpha.root]);
    assert!(matches!(refusal(&topology, &without_proof), TopologyRefusal::NotOwned { .. }));
    let without_root = signed(alpha.keys(), 1, &[&alpha.auth]);
    assert!(matches!(refusal(&topology, &without_root), TopologyRefusal::Unauthorized { .. }));
    let mut forged = signed(alpha.keys(), 1, &[&alpha.root, &alpha.auth]);
    forged.signatures[0].signature[5] ^= 1;
    assert!(matches!(
        refusal(&topology, &forged),
        TopologyRefusal::Crypto(CryptoError::Signature(_))
    ));
    let mut other_algorithm = signed(alpha.keys(), 1, &[&alpha.root, &alpha.auth]);
    other_algorithm.signatures[0].signing_algorithm_spec = 2;
    assert!(matches!(
        refusal(&topology, &other_algorithm),
        TopologyRefusal::Crypto(CryptoError::Algorithm(_))
    ));
    let stranger = signed(alpha.keys(), 1, &[&alpha.root, &alpha.auth, &beta.root]);
    assert!(matches!(refusal(&topology, &stranger), TopologyRefusal::UnknownSigner { .. }));
    take(&mut topology, &early).unwrap();
    assert_eq!(topology.keys_of(&alpha.id).len(), 1);
}

#[test]
fn serials_have_no_gaps_and_proposals_are_not_kept() {
    let alpha = Owner::new("alpha", 1);
    let mut topology = Topology::default();
    for serial in [0, 2] {
        let wrong = signed(alpha.delegation(), serial, &[&alpha.root]);
        let refused = refusal(&topology, &wrong);
        assert!(matches!(refused, TopologyRefusal::Serial { expected: 1, .. }), "{refused:?}");
    }
    let mut proposal = signed(alpha.delegation(), 1, &[&alpha.root]);
    proposal.proposal = true;
    assert_eq!(refusal(&topology, &proposal), TopologyRefusal::Proposal);
    alpha.stand(&mut topology);
    let again = signed(alpha.delegation(), 1, &[&alpha.root, &alpha.root]);
    // The same transaction, whoever signed it how often.
    assert_eq!(topology.assess(&again, &Demands::default()), Ok(Assessed::Known));
}

#[test]
fn a_party_is_hosted_with_the_signature_of_each_participant_that_is_added() {
    let (alpha, beta) = (Owner::new("alpha", 1), Owner::new("beta", 2));
    let mut topology = Topology::default();
    alpha.stand(&mut topology);
    beta.stand(&mut topology);
    let party: PartyId = format!("alice::{}", alpha.root.name).parse().unwrap();
    assert!(topology.hosts_of(&party).is_empty());
    for threshold in [0, 2] {
        let wrong = signed(alpha.hosting(&[&alpha], threshold), 1, &[&alpha.root]);
        assert!(matches!(refusal(&topology, &wrong), TopologyRefusal::Threshold { .. }));
    }
    take(&mut topology, &signed(alpha.hosting(&[&alpha], 1), 1, &[&alpha.root])).unwrap();
    let both = alpha.hosting(&[&alpha, &beta], 1);
    let alone = signed(both.clone(), 2, &[&alpha.root]);
    assert!(matches!(refusal(&topology, &alone), TopologyRefusal::Unauthorized { .. }));
    let uninvited = signed(both.clone(), 2, &[&beta.root]);
    assert!(matches!(refusal(&topology, &uninvited), TopologyRefusal::Unauthorized { .. }));
    take(&mut topology, &signed(both, 2, &[&alpha.root, &beta.root])).unwrap();
    assert_eq!(topology.hosts_of(&party).len(), 2);
    assert_eq!(topology.hosted_by(&beta.id), BTreeSet::from([party]));
    // The participant's own party needs no mapping.
    assert_eq!(topology.hosts_of(&beta.id.admin_party()), BTreeSet::from([beta.id.to_string()]));
}

#[test]
fn a_place_refuses_keys_and_certificates_that_it_does_not_demand() {
    let alpha = Owner::new("alpha", 1);
    let mut topology = Topology::default();
    take(&mut topology, &signed(alpha.delegation(), 1, &[&alpha.root])).unwrap();
    let demands = Demands {
        synchronizer: Some("global::1220aa".to_owned()),
        signing: Some(vec![KeyScheme::P256]),
        encryption: None,
    };
    let keys = signed(alpha.keys(), 1, &[&alpha.root, &alpha.auth]);
    let refused = topology.assess(&keys, &demands).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("scheme ed25519") && said.ends_with("one of: p256"), "{said}");
    let trust = |synchronizer: &str| {
        Mapping::SynchronizerTrustCertificate(SynchronizerTrustCertificate {
            participant_uid: alpha.id.to_string(),
            synchronizer_id: synchronizer.to_owned(),
            feature_flags: Vec::new(),
        })
    };
    let other = signed(trust("other::1220aa"), 1, &[&alpha.root]);
    let refused = topology.assess(&other, &demands).unwrap_err();
    assert!(matches!(refused, TopologyRefusal::OtherSynchronizer { .. }), "{refused:?}");
    let right = signed(trust("global::1220aa"), 1, &[&alpha.root]);
    assert!(matches!(topology.assess(&right, &demands), Ok(Assessed::New(_))));
}

#[test]
fn a_removal_takes_a_mapping_away_and_its_serial_stays() {
    let alpha = Owner::new("alpha", 1);
    let mut topology = Topology::default();
    alpha.stand(&mut topology);
    let vetted = || {
        Mapping::VettedPackages(VettedPackages {
            participant_uid: alpha.id.to_string(),
            package_ids: vec!["aa".to_owned()],
            packages: Vec::new(),
        })
    };
    take(&mut topology, &signed(vetted(), 1, &[&alpha.root])).unwrap();
    assert_eq!(topology.packages_of(&alpha.id).len(), 1);
    let transaction = transaction_bytes(TopologyChangeOp::Remove, 2, vetted());
    let signatures = vec![alpha.root.sign(&hash_of(&transaction))];
    let removal = SignedTopologyTransaction {
        transaction,
        signatures,
        ..SignedTopologyTransaction::default()
    };
    take(&mut topology, &removal).unwrap();
    assert!(topology.packages_of(&alpha.id).is_empty());
    let early = signed(vetted(), 2, &[&alpha.root]);
    assert!(matches!(refusal(&topology, &early), TopologyRefusal::Serial { expected: 3, .. }));
    take(&mut topology, &signed(vetted(), 3, &[&alpha.root])).unwrap();
    assert_eq!(topology.packages_of(&alpha.id).len(), 1);
}
