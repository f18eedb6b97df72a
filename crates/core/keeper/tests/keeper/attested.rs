//! What the two sides of a handover attest: each test changes one thing on the way, and the side
//! that judges finds it out before it does anything.

use heirloom_attest::error::AppraiseError;
use heirloom_attest::local::LocalError;
use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::handover::{NotAttested, authorise};
use heirloom_keeper::handshake::Peer;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::{Platform, PlatformError};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{Epoch, Generation, SecurityVersion};
use heirloom_model::digest::{
    AuthorisationDigest, ChannelDigest, Checksum, NetworkId, Nonce, PlanDigest, ReleaseDigest,
};
use heirloom_model::evidence::{LocalReport, ReportData, ReportTarget};
use heirloom_model::handover::{
    Authorisation, HandoverChallenge, HandoverProof, HandoverQuestion, HandoverRequest,
    HandoverRole,
};
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::REPLICATION_BATCH_MAX;
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::plan::StepId;
use heirloom_model::protocol::{PeerRefusal, PeerRequest, PeerResponse};
use heirloom_testkit::ceremony::Code;

use crate::seats::{Answered, Play, TO_NEW, TO_VIA};
use crate::world::{Node, launch, launch_as, secs};

fn asks(answered: &mut Answered, play: &Play, proof: HandoverProof) -> Result<usize, PeerRefusal> {
    let message = PeerRequest::ProveHandover(proof);
    match play.old.converse(&answered.receiver, &mut answered.session, &message) {
        PeerResponse::Generations(sent) => Ok(sent.len()),
        PeerResponse::Refused(refusal) => Err(refusal),
        PeerResponse::Key(_) | PeerResponse::HandoverChallenge(_) => panic!("another answer"),
    }
}

fn believes(
    play: &Play,
    answered: &Answered,
    challenge: &HandoverChallenge,
) -> Result<(), KeeperError> {
    let Answered { ask, donor, .. } = answered;
    play.via.keeper.prove_to_donor(&play.via.enclave, donor, ask, challenge).map(|_| ())
}

/// Makes one thing another one.
type Change<T> = dyn Fn(&mut T);

/// What a side attests if it is honest.
#[derive(Clone)]
struct Claim {
    role: HandoverRole,
    answered: HandoverQuestion,
    own: HandoverQuestion,
    channel: ChannelDigest,
    authorisation: Authorisation,
}

impl Claim {
    fn of_receiver(play: &Play, answered: &Answered) -> Self {
        let own = answered.request.question.clone();
        let question = answered.challenge.question.clone();
        Self {
            role: HandoverRole::Receiver,
            answered: question,
            own,
            ..Self::of_donor(play, answered)
        }
    }

    fn of_donor(play: &Play, answered: &Answered) -> Self {
        Self {
            role: HandoverRole::Donor,
            answered: answered.request.question.clone(),
            own: answered.challenge.question.clone(),
            channel: *answered.receiver.channel(),
            authorisation: (*authorise(&play.world.state, play.step(TO_VIA)).unwrap()).clone(),
        }
    }

    /// Has an enclave attest it to whoever asked.
    fn by(&self, enclave: &EmulatedEnclave) -> LocalReport {
        let Self { role, answered, own, channel, authorisation } = self;
        let digest: AuthorisationDigest = authorisation.digest();
        let data = ReportData::for_handover(*role, answered, own, channel, &digest);
        enclave.report(&answered.target.unwrap(), &data).unwrap()
    }
}

fn proof(report: Option<&LocalReport>) -> HandoverProof {
    HandoverProof { report: report.copied(), newest: Generation(0), count: 1 }
}

/// The donor is shown a receiver that attested this, the receiver a donor that attested that.
fn in_both_roles(change: &Change<Claim>) -> (Result<usize, PeerRefusal>, Result<(), KeeperError>) {
    let mut play = Play::new();
    let mut answered = play.answered(TO_VIA).unwrap();
    let mut claim = Claim::of_receiver(&play, &answered);
    change(&mut claim);
    let report = claim.by(&play.via.enclave);
    let by_donor = asks(&mut answered, &play, proof(Some(&report)));
    let mut claim = Claim::of_donor(&play, &answered);
    change(&mut claim);
    let report = Some(claim.by(&play.old.enclave));
    let challenge = HandoverChallenge { report, ..answered.challenge.clone() };
    (by_donor, believes(&play, &answered, &challenge))
}

fn expect_refused_in_both_roles(what: &str, change: &Change<Claim>) {
    let (by_donor, by_receiver) = in_both_roles(change);
    assert!(matches!(by_donor, Err(PeerRefusal::NotAttested { .. })), "{what}: {by_donor:?}");
    let mismatch = matches!(
        &by_receiver,
        Err(KeeperError::NotAttested(NotAttested::Report(reason)))
            if matches!(**reason, LocalError::ReportDataMismatch { .. })
    );
    assert!(mismatch, "{what}: {by_receiver:?}");
}

#[test]
fn an_honest_answer_is_believed_in_both_roles() {
    assert_eq!(in_both_roles(&|_| {}), (Ok(1), Ok(())));
}

/// An answer is bound to one session and one pair of questions, and says who gives.
#[test]
fn an_answer_for_another_session_is_refused() {
    let cases: &[(&str, &Change<Claim>)] = &[
        ("another channel", &|claim| claim.channel = ChannelDigest::new([9; 32])),
        ("an older question", &|claim| claim.answered.nonce = Nonce::new([9; 32])),
        ("another question of its own", &|claim| claim.own.nonce = Nonce::new([9; 32])),
        ("another address of its own", &|claim| {
            claim.own.target = Some(ReportTarget::new([0; 512]));
        }),
        ("no address of its own", &|claim| claim.own.target = None),
        ("the other role", &|claim| {
            claim.role = match claim.role {
                HandoverRole::Donor => HandoverRole::Receiver,
                HandoverRole::Receiver => HandoverRole::Donor,
            };
        }),
    ];
    for (what, change) in cases {
        expect_refused_in_both_roles(what, change);
    }
}

/// A permission is an edge: between these seats, of this keyring, by this step of this plan, until
/// this epoch. An answer that was made for any other one is worthless.
#[test]
fn an_answer_for_another_permission_is_refused() {
    let cases: &[(&str, &Change<Authorisation>)] = &[
        ("network", &|it| it.network = NetworkId::new([9; 32])),
        ("domain", &|it| it.domain = DomainId::new([9; 32])),
        ("plan", &|it| it.plan = PlanDigest::new([9; 32])),
        ("step", &|it| it.step = StepId(TO_NEW)),
        ("from_node", &|it| it.from_node = "node-2".parse().unwrap()),
        ("from_host", &|it| it.from_host = "host-2".parse().unwrap()),
        ("from.release", &|it| it.from.release = ReleaseDigest::new([9; 32])),
        ("from.measurement", &|it| it.from.measurement = it.to.measurement),
        ("to_node", &|it| it.to_node = "node-2".parse().unwrap()),
        ("to_host", &|it| it.to_host = "host-2".parse().unwrap()),
        ("to.release", &|it| it.to.release = ReleaseDigest::new([9; 32])),
        ("to.measurement", &|it| it.to.measurement = it.from.measurement),
        ("generation", &|it| it.generation = Generation(1)),
        ("checksum", &|it| it.checksum = Checksum::new([9; 32])),
        ("not_after", &|it| it.not_after = Epoch(51)),
        ("nonce", &|it| it.nonce = Nonce::new([9; 32])),
    ];
    for (what, change) in cases {
        expect_refused_in_both_roles(what, &|claim| change(&mut claim.authorisation));
    }
}

/// What the two sides say to each other crosses the hands of whoever connects them.
#[test]
fn a_request_that_was_changed_on_the_way_leads_nowhere() {
    let mut play = Play::new();
    let answered = play.answered(TO_VIA).unwrap();
    let original = answered.request.clone();
    let ask = |request: HandoverRequest| {
        play.old.keeper.challenge_receiver(&play.old.enclave, &answered.receiver, &request)
    };
    let changed = |change: fn(&mut HandoverRequest)| {
        let mut request = original.clone();
        change(&mut request);
        request
    };
    let refused = ask(changed(|it| it.step.plan = PlanDigest::new([9; 32])));
    assert!(matches!(refused.err(), Some(PeerRefusal::NotAuthorised { .. })));
    for step in [0, TO_NEW, 99] {
        let mut request = original.clone();
        request.step.step = StepId(step);
        assert!(matches!(ask(request).err(), Some(PeerRefusal::NotAuthorised { .. })), "{step}");
    }
    let refused = ask(changed(|it| it.question.target = None));
    assert!(matches!(refused.err(), Some(PeerRefusal::NotAttested { .. })));
    // Other questions are answered, and the receiver finds that they are not its own.
    let (_, other) = ask(changed(|it| it.question.nonce = Nonce::new([9; 32]))).unwrap();
    let judged = believes(&play, &answered, &other);
    assert!(matches!(judged, Err(KeeperError::NotAttested(NotAttested::Report(_)))), "{judged:?}");
    let mut elsewhere = original.clone();
    elsewhere.question.target = Some(play.new.enclave.report_target().unwrap());
    let (_, other) = ask(elsewhere).unwrap();
    let judged = believes(&play, &answered, &other);
    let refused = LocalError::NotVerified(PlatformError::ReportRefused);
    assert_eq!(judged, Err(NotAttested::Report(Box::new(refused)).into()));
}

#[test]
fn a_challenge_that_was_changed_on_the_way_is_not_answered() {
    let mut play = Play::new();
    let answered = play.answered(TO_VIA).unwrap();
    let judge = |change: &dyn Fn(&mut HandoverChallenge)| {
        let mut challenge = answered.challenge.clone();
        change(&mut challenge);
        match believes(&play, &answered, &challenge) {
            Err(KeeperError::NotAttested(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let is_other = |reason: &NotAttested| matches!(reason, NotAttested::Report(_));
    assert!(is_other(&judge(&|it| it.question.nonce = Nonce::new([9; 32]))));
    let target = play.new.enclave.report_target().unwrap();
    assert!(is_other(&judge(&|it| it.question.target = Some(target))));
    assert_eq!(judge(&|it| it.question.target = None), NotAttested::ReportMissing);
    assert_eq!(judge(&|it| it.report = None), NotAttested::ReportMissing);
    for at in [0, 48, 64, 128, 256, 258, 320, 383, 384, 431] {
        let changed = judge(&|it| {
            let mut bytes = *it.report.unwrap().as_bytes();
            bytes[at] ^= 2;
            it.report = Some(LocalReport::new(bytes));
        });
        assert!(is_other(&changed), "{at}: {changed:?}");
    }
}

#[test]
fn a_proof_that_was_changed_on_the_way_gets_nothing() {
    let judge = |change: &dyn Fn(&mut HandoverProof)| {
        let mut play = Play::new();
        let mut answered = play.answered(TO_VIA).unwrap();
        let report = Claim::of_receiver(&play, &answered).by(&play.via.enclave);
        let mut sent = proof(Some(&report));
        change(&mut sent);
        asks(&mut answered, &play, sent)
    };
    assert_eq!(judge(&|_| {}), Ok(1));
    assert!(matches!(judge(&|it| it.report = None), Err(PeerRefusal::NotAttested { .. })));
    for at in [0, 48, 64, 128, 256, 258, 320, 383, 384, 431] {
        let changed = judge(&|it| {
            let mut bytes = *it.report.unwrap().as_bytes();
            bytes[at] ^= 2;
            it.report = Some(LocalReport::new(bytes));
        });
        assert!(matches!(changed, Err(PeerRefusal::NotAttested { .. })), "{at}: {changed:?}");
    }
    let generation = Generation(1);
    let newest = judge(&|it| it.newest = generation);
    assert_eq!(newest, Err(PeerRefusal::NotHeld { generation }));
    assert_eq!(judge(&|it| it.count = 0), Err(PeerRefusal::OutOfLimits));
    let too_many = u32::try_from(REPLICATION_BATCH_MAX).unwrap() + 1;
    assert_eq!(judge(&|it| it.count = too_many), Err(PeerRefusal::OutOfLimits));
}

/// The donor is the one who must be sure. Whoever does not answer gets nothing, and whoever
/// answered once differently does not try again.
#[test]
fn nothing_is_sent_before_the_donor_has_verified_the_receiver() {
    let mut play = Play::new();
    let mut answered = play.answered(TO_VIA).unwrap();
    let honest = proof(Some(&Claim::of_receiver(&play, &answered).by(&play.via.enclave)));
    let unasked = PeerRequest::ProveHandover(honest.clone());
    let refused = play.old.serve(&answered.receiver, &unasked);
    assert!(matches!(refused, PeerResponse::Refused(PeerRefusal::NotAttested { .. })));
    let mut nobody = heirloom_keeper::handover::DonorSession::default();
    let refused = play.old.converse(&answered.receiver, &mut nobody, &unasked);
    assert!(matches!(refused, PeerResponse::Refused(PeerRefusal::NotAttested { .. })));

    assert_eq!(asks(&mut answered, &play, honest.clone()), Ok(1));
    assert_eq!(asks(&mut answered, &play, honest.clone()), Ok(1), "for what follows");
    let other = proof(None);
    assert!(asks(&mut answered, &play, other).is_err());
    assert!(asks(&mut answered, &play, honest).is_err(), "it is used up");

    let mut answered = play.answered(TO_VIA).unwrap();
    let honest = proof(Some(&Claim::of_receiver(&play, &answered).by(&play.via.enclave)));
    assert!(asks(&mut answered, &play, proof(None)).is_err());
    assert!(asks(&mut answered, &play, honest).is_err(), "the first answer decides");
}

/// Authorised on one connection, and taken on another.
#[test]
fn a_challenge_is_good_for_one_receiver_in_one_session() {
    let mut play = Play::new();
    let mut answered = play.answered(TO_VIA).unwrap();
    let honest = proof(Some(&Claim::of_receiver(&play, &answered).by(&play.via.enclave)));
    let (other, _) = play.world.session_over(&mut play.via, &mut play.old, [9; 32]);
    assert_ne!(other.channel(), answered.receiver.channel());
    let first = std::mem::replace(&mut answered.receiver, other);
    let refused = asks(&mut answered, &play, honest.clone());
    let reason = NotAttested::OtherSession.to_string();
    assert_eq!(refused, Err(PeerRefusal::NotAttested { reason }));
    answered.receiver = first;
    assert_eq!(asks(&mut answered, &play, honest), Ok(1));
    // The receiver, too, answers only in the session in which it asked.
    let answered = play.answered(TO_VIA).unwrap();
    let (_, elsewhere) = play.world.session_over(&mut play.via, &mut play.old, [9; 32]);
    let Answered { ask, challenge, .. } = answered;
    let judged = play.via.keeper.prove_to_donor(&play.via.enclave, &elsewhere, &ask, &challenge);
    assert!(matches!(judged.err(), Some(KeeperError::NotAttested(NotAttested::Report(_)))));
}

/// A new instance of the same code on the same machine is not the one that is registered.
fn twin(play: &Play, node: &Node, code: &Code, host: Option<u8>) -> Node {
    let host = host.map_or_else(|| node.host.clone(), |number| play.world.node(number, code).host);
    let mut twin = play.world.seat(&node.name, &host, code, node.disk.clone(), 77);
    play.world.feed(&mut twin);
    twin
}

/// How old keeper and upgrader judge a peer that differs from the other in one thing.
fn judged(change: impl Fn(&Code) -> Code, host: Option<u8>) -> [NotAttestedOr; 2] {
    let mut play = Play::new();
    let answered = play.answered(TO_VIA).unwrap();
    let mut receiver = twin(&play, &play.via, &change(&play.world.via), host);
    let (peer, _) = play.world.session(&mut receiver, &mut play.old);
    let request = answered.request.clone();
    let by_donor = play.old.keeper.challenge_receiver(&play.old.enclave, &peer, &request);
    let mut donor = twin(&play, &play.old, &change(&play.world.old), host);
    let (_, peer) = play.world.session(&mut play.via, &mut donor);
    let Answered { ask, challenge, .. } = answered;
    let by_receiver = play.via.keeper.prove_to_donor(&play.via.enclave, &peer, &ask, &challenge);
    [
        match by_donor.err().unwrap() {
            PeerRefusal::NotAttested { reason } => NotAttestedOr::NotAttested(reason),
            PeerRefusal::NotAuthorised { .. } => NotAttestedOr::NotAuthorised,
            other => panic!("{other}"),
        },
        match by_receiver.err().unwrap() {
            KeeperError::NotAttested(reason) => NotAttestedOr::NotAttested(reason.to_string()),
            KeeperError::NotAuthorised(_) => NotAttestedOr::NotAuthorised,
            KeeperError::NotAHolder(reason) => NotAttestedOr::NotAttested(reason.to_string()),
            other => panic!("{other}"),
        },
    ]
}

#[derive(Debug, Eq, PartialEq)]
enum NotAttestedOr {
    NotAttested(String),
    NotAuthorised,
}

#[test]
fn every_field_of_an_enclaves_identity_is_judged_in_both_roles() {
    let is_attested = |judged: &NotAttestedOr, what: &str| matches!(judged, NotAttestedOr::NotAttested(reason) if reason.contains(what));
    let other_code = judged(|_| Code::named("new", 3), None);
    assert!(other_code.iter().all(|it| is_attested(it, "the plan names")), "{other_code:?}");
    let lower = |code: &Code| Code {
        security_version: SecurityVersion(code.security_version.0 - 1),
        ..*code
    };
    let older = judged(lower, None);
    assert!(older.iter().all(|it| is_attested(it, "security version")), "{older:?}");
    let elsewhere = judged(|code| *code, Some(2));
    assert!(elsewhere.iter().all(|it| is_attested(it, "this is")), "{elsewhere:?}");
    let unregistered = judged(|code| *code, None);
    assert!(unregistered.iter().all(|it| *it == NotAttestedOr::NotAuthorised), "{unregistered:?}");
}

/// Both sides are shown a report of another enclave, and each says the same about it.
fn expect_enclaves_refused(
    what: &str,
    expected: &NotAttested,
    other: &dyn Fn(&Node, &Code) -> EmulatedEnclave,
) {
    let mut play = Play::new();
    let mut answered = play.answered(TO_VIA).unwrap();
    let enclave = other(&play.via, &play.world.via);
    let report = Claim::of_receiver(&play, &answered).by(&enclave);
    let refused = asks(&mut answered, &play, proof(Some(&report)));
    assert_eq!(refused, Err(expected.clone().into()), "{what}");
    let enclave = other(&play.old, &play.world.old);
    let report = Some(Claim::of_donor(&play, &answered).by(&enclave));
    let challenge = HandoverChallenge { report, ..answered.challenge.clone() };
    let judged = believes(&play, &answered, &challenge);
    assert_eq!(judged, Err(expected.clone().into()), "{what}");
}

/// A debug twin has the same measurement, and everything in it can be read from outside.
#[test]
fn a_debug_twin_does_not_attest_for_the_real_one() {
    let denied = LocalError::Denied(AppraiseError::DebugEnclave);
    let expected = NotAttested::Report(Box::new(denied));
    expect_enclaves_refused("debug", &expected, &|node, code| {
        launch(&node.host, code, LaunchMode::Debug, 5)
    });
}

/// Some enclave on this machine made the report: that is not enough.
#[test]
fn another_enclave_of_the_machine_does_not_attest_for_the_real_one() {
    let cases: &[(&str, &Change<Secs>)] = &[
        ("other code", &|it| it.measurement = MrEnclave::new([9; 32])),
        ("another signer", &|it| it.signer = MrSigner::new([9; 32])),
        ("another product", &|it| it.product_id += 1),
        ("an older version", &|it| it.isv_svn -= 1),
        ("a newer version", &|it| it.isv_svn += 1),
    ];
    for (what, change) in cases {
        expect_enclaves_refused(what, &NotAttested::TwoEnclaves, &|node, code| {
            let mut secs = secs(code, LaunchMode::Production);
            change(&mut secs);
            launch_as(&node.host, secs, 5)
        });
    }
}

/// A report of the same code on another machine has another key.
#[test]
fn a_report_from_another_machine_is_refused() {
    let elsewhere = Play::new().world.node(2, &Code::named("any", 1)).host;
    let refused = LocalError::NotVerified(PlatformError::ReportRefused);
    let expected = NotAttested::Report(Box::new(refused));
    expect_enclaves_refused("elsewhere", &expected, &|_, code| {
        launch(&elsewhere, code, LaunchMode::Production, 5)
    });
}

/// The side that connects receives: what was said to the one is not said to the other.
#[test]
fn the_donor_never_connects() {
    let mut play = Play::new();
    let Answered { ask, request, challenge, .. } = play.answered(TO_VIA).unwrap();
    let (donor, receiver): (Peer, Peer) = play.world.session(&mut play.old, &mut play.via);
    let refused = play.old.keeper.challenge_receiver(&play.old.enclave, &receiver, &request);
    let reason = NotAttested::Direction.to_string();
    assert_eq!(refused.err(), Some(PeerRefusal::NotAttested { reason }));
    let judged = play.via.keeper.prove_to_donor(&play.via.enclave, &donor, &ask, &challenge);
    assert_eq!(judged.err(), Some(NotAttested::Direction.into()));
}
