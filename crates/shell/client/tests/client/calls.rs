//! What an application sees while holders come, go, drain, lag, refuse and lie.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use heirloom_client::error::{AttemptError, ClientError, Unanswered, WaitingFor};
use heirloom_keeper::derive::key_check;
use heirloom_keeper::handshake::NotAHolder;
use heirloom_model::admin::Source;
use heirloom_model::counter::{Generation, Serial};
use heirloom_model::protocol::{KeyPeriod, KeyRequest, PeerRefusal, PeerResponse, ServingState};
use heirloom_testkit::ceremony::Code;

use crate::network::{Network, Script, ample, key_of, request, serve, short};

fn draining(_: &KeyRequest, _: usize) -> PeerResponse {
    PeerResponse::Refused(PeerRefusal::NotServing { state: ServingState::Draining })
}

/// Nobody may ask this holder anything.
fn never_asked(_: &KeyRequest, _: usize) -> PeerResponse {
    panic!("nobody may ask this holder anything")
}

fn unanswered(error: ClientError) -> Unanswered {
    match error {
        ClientError::Unanswered(unanswered) => *unanswered,
        other => panic!("an answer: {other:?}"),
    }
}

fn failure(unanswered: &Unanswered, machine: u8) -> &AttemptError {
    &unanswered.failures[&format!("node-{machine}").parse().unwrap()]
}

#[test]
fn keys_of_every_kind_arrive_as_the_holder_derived_them() {
    let network = Network::new();
    let holder = network.holder(1, serve);
    let mut client = network.client();
    for number in 0..5 {
        let key = client.get(&request(number), ample()).unwrap();
        let expected = key_of(&request(number));
        assert_eq!(key.check(), Some(expected.secret.expose(key_check)));
        assert_eq!(key.public(), expected.public.as_ref().map(|public| public.0.as_slice()));
        assert_eq!((key.generation(), key.policy()), (Generation(3), Serial(1)));
    }
    assert_eq!(holder.sessions(), 1, "the session is kept");
}

#[test]
fn many_keys_are_asked_for_at_once_and_come_in_order() {
    let network = Network::new();
    let _holder = network.holder(1, serve);
    let requests: Vec<KeyRequest> = (0..300).map(request).collect();
    let answers = network.client().get_many(&requests, ample()).unwrap();
    assert_eq!(answers.len(), requests.len());
    for (request, answer) in requests.iter().zip(answers) {
        let expected = key_of(request).secret.expose(key_check);
        assert_eq!(answer.unwrap().check(), Some(expected));
    }
}

#[test]
fn a_holder_that_drains_is_replaced_and_loses_no_request() {
    let network = Network::new();
    let drains: Script = |request, count| {
        if count < 70 { serve(request, count) } else { draining(request, count) }
    };
    let (first, second) = (network.holder(1, drains), network.holder(2, serve));
    let requests: Vec<KeyRequest> = (0..100).map(request).collect();
    let answers = network.client().get_many(&requests, ample()).unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((first.requests(), second.requests()), (100, 30), "no answer was thrown away");
}

#[test]
fn a_holder_that_stops_is_replaced() {
    let network = Network::new();
    let (first, second) = (network.holder(1, serve), network.holder(2, serve));
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    assert_eq!(first.requests() + second.requests(), 1);
    let (asked, other) = if first.requests() == 1 { (&first, &second) } else { (&second, &first) };
    asked.stop();
    client.get(&request(2), ample()).unwrap();
    assert_eq!(other.requests(), 1);
}

#[test]
fn a_holder_that_restarts_elsewhere_is_found_again() {
    let network = Network::new();
    let first = network.holder(1, serve);
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    first.stop();
    network.directory.0.lock().unwrap().clear();
    let again = network.holder(1, serve);
    client.get(&request(2), ample()).unwrap();
    assert_eq!(again.requests(), 1);
}

#[test]
fn a_holder_that_says_nothing_does_not_use_up_the_time() {
    let network = Network::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let source = Source { node: "node-0".parse().unwrap(), address };
    network.directory.0.lock().unwrap().push(source);
    let second = network.holder(2, serve);
    network.client().get(&request(1), ample()).unwrap();
    assert_eq!(second.requests(), 1);
}

#[test]
fn a_refusal_by_policy_is_an_answer_and_nobody_else_is_asked() {
    let refuses: Script = |request, _| {
        PeerResponse::Refused(PeerRefusal::ApplicationNotListed {
            policy: Serial(1),
            measurement: Code::application("wallet", 1).measurement,
            application: request.application.clone(),
        })
    };
    let network = Network::new();
    let (first, second) = (network.holder(1, refuses), network.holder(2, refuses));
    let error = network.client().get(&request(1), ample()).err().unwrap();
    let ClientError::Refused(refused) = error else { panic!("a refusal: {error:?}") };
    let by_policy = PeerRefusal::ApplicationNotListed {
        policy: Serial(1),
        measurement: network.wallet.measurement,
        application: request(1).application,
    };
    assert_eq!(refused.reason, by_policy);
    assert_eq!(first.requests() + second.requests(), 1);
}

#[test]
fn code_that_may_not_hold_is_not_asked() {
    let network = Network::new();
    let other = network.holder_of(1, Code::named("other keeper", 1), never_asked);
    let unanswered = unanswered(network.client().get(&request(1), short()).err().unwrap());
    let reason = failure(&unanswered, 1);
    let not_listed = matches!(reason, AttemptError::NotAHolder(NotAHolder::NotListed { .. }));
    assert!(not_listed, "{reason:?}");
    assert_eq!(other.requests(), 0);
}

#[test]
fn a_session_whose_evidence_is_too_old_is_opened_again() {
    let network = Network::new();
    let wants_new: Script = |request, count| match count {
        1 => PeerResponse::Refused(PeerRefusal::EvidenceTooOld),
        _ => serve(request, count),
    };
    let holder = network.holder(1, wants_new);
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    client.get(&request(2), ample()).unwrap();
    assert_eq!((holder.sessions(), holder.requests()), (2, 3));
}

#[test]
fn a_new_policy_ends_sessions_that_rest_on_the_old_one() {
    let network = Network::new();
    let holder = network.holder(1, serve);
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    network.publish(&network.ceremony.policy(&network.policy(Serial(2))));
    holder.follow(&network);
    let deadline = ample();
    while holder.sessions() < 2 {
        assert!(Instant::now() < deadline, "the session was never opened again");
        client.get(&request(2), deadline).unwrap();
    }
}

#[test]
fn answers_that_were_not_asked_for_do_not_count() {
    let other_generation: Script = |request, count| {
        serve(
            &KeyRequest { period: KeyPeriod::Generation(Generation(2)), ..request.clone() },
            count,
        )
    };
    let no_secret: Script = |request, count| match serve(request, count) {
        PeerResponse::Key(mut answer) => {
            answer.secret = None;
            PeerResponse::Key(answer)
        }
        other => other,
    };
    let other_kind: Script = |request, count| match serve(request, count) {
        PeerResponse::Key(mut answer) => {
            answer.public = None;
            PeerResponse::Key(answer)
        }
        other => other,
    };
    let generations: Script = |_, _| PeerResponse::Generations(Vec::new());
    for script in [other_generation, no_secret, other_kind, generations] {
        let network = Network::new();
        let _holder = network.holder(1, script);
        let asked = KeyRequest { period: KeyPeriod::Generation(Generation(1)), ..request(1) };
        let unanswered = unanswered(network.client().get(&asked, short()).err().unwrap());
        let reason = failure(&unanswered, 1);
        assert!(matches!(reason, AttemptError::WrongAnswer), "{reason:?}");
    }
}

#[test]
fn a_call_ends_with_its_deadline_and_says_what_it_waited_for() {
    let begun = Instant::now();
    let network = Network::without_policy();
    let no_policy = unanswered(network.client().get(&request(1), short()).err().unwrap());
    assert_eq!(no_policy.waiting_for, WaitingFor::Policy);
    let network = Network::new();
    let nobody = unanswered(network.client().get(&request(1), short()).err().unwrap());
    assert_eq!(nobody.waiting_for, WaitingFor::Holders);
    let _holder = network.holder(1, draining);
    let drained = unanswered(network.client().get(&request(1), short()).err().unwrap());
    assert_eq!(drained.waiting_for, WaitingFor::Answer);
    assert!(matches!(failure(&drained, 1), AttemptError::NotNow(_)));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_holder_that_becomes_present_within_the_deadline_is_asked() {
    let network = Network::new();
    let mut client = network.client();
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || client.get(&request(1), ample()).is_ok());
        let holder = network.holder(1, serve);
        assert!(asking.join().unwrap());
        assert_eq!(holder.requests(), 1);
    });
}
