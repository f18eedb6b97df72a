//! An exclusive domain: who is asked, who is believed, and how soon the next one is found.

use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use heirloom_client::error::{AttemptError, ClientError, WaitingFor};
use heirloom_keeper::handshake::NotAHolder;
use heirloom_model::domain::ActivationCause;
use heirloom_model::protocol::{PeerRefusal, PeerResponse, ServingState};

use crate::network::{Holder, Network, Script, ample, request, serve, short};

/// The directory names exactly this holder.
fn announce(network: &Network, holder: &Holder) {
    *network.directory.0.lock().unwrap() = vec![holder.source()];
}

fn unanswered(error: ClientError) -> heirloom_client::error::Unanswered {
    match error {
        ClientError::Unanswered(unanswered) => *unanswered,
        other => panic!("an answer: {other:?}"),
    }
}

#[test]
fn nobody_is_asked_before_the_log_names_an_active_holder() {
    let network = Network::exclusive();
    let one = network.instance(1, serve);
    announce(&network, &one);
    let mut client = network.client();
    let nobody = unanswered(client.get(&request(1), short()).err().unwrap());
    assert_eq!(nobody.waiting_for, WaitingFor::Activation);
    assert_eq!(one.sessions(), 0);
    network.activate(&one, ActivationCause::First);
    let key = client.get(&request(1), ample()).unwrap();
    assert_eq!(key.holder().instance, one.instance());
    assert_eq!(key.holder().measurement, network.keeper.measurement);
}

/// The same code, on the same machine, of the same node, with the same key: a clone, for instance.
#[test]
fn only_the_active_instance_is_believed() {
    let network = Network::exclusive();
    let (one, clone) = (network.instance(1, serve), network.instance(2, serve));
    network.activate(&one, ActivationCause::First);
    announce(&network, &clone);
    let mut client = network.client();
    let refused = unanswered(client.get(&request(1), short()).err().unwrap());
    let failure = &refused.failures[&clone.source().node];
    let expected = NotAHolder::NotActive { instance: clone.instance() };
    let not_active = matches!(failure, AttemptError::NotAHolder(found) if *found == expected);
    assert!(not_active, "{failure:?}");
    assert_eq!(clone.requests(), 0, "it is not even asked");
    announce(&network, &one);
    client.get(&request(1), ample()).unwrap();
}

#[test]
fn the_next_active_holder_is_found_and_the_one_before_is_asked_no_more() {
    let network = Network::exclusive();
    let (one, two) = (network.instance(1, serve), network.instance(2, serve));
    network.activate(&one, ActivationCause::First);
    announce(&network, &one);
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    let before = one.requests();
    network.activate(&two, ActivationCause::Restarted);
    announce(&network, &two);
    let deadline = ample();
    loop {
        let key = client.get(&request(2), deadline).unwrap();
        if key.holder().instance == two.instance() {
            break;
        }
        // The log had not come yet.
        assert_eq!(key.holder().instance, one.instance());
        assert!(Instant::now() < deadline, "the next holder was never found");
    }
    let after = one.requests();
    client.get(&request(3), ample()).unwrap();
    assert_eq!(one.requests(), after);
    assert!(after >= before);
}

/// A holder that has suspended itself keeps its session: what is awaited is a word of the log.
#[test]
fn a_client_waits_for_the_switch_without_long_pauses() {
    let suspended: Script = |request, count| match count {
        0 => serve(request, count),
        _ => PeerResponse::Refused(PeerRefusal::NotServing { state: ServingState::Suspended }),
    };
    let network = Network::exclusive();
    let (one, two) = (network.instance(1, suspended), network.instance(2, serve));
    network.activate(&one, ActivationCause::First);
    announce(&network, &one);
    let mut client = network.client();
    client.get(&request(1), ample()).unwrap();
    let (asked, begun) = (network.directory.1.load(Ordering::SeqCst), Instant::now());
    thread::scope(|scope| {
        let asking = scope.spawn(move || client.get(&request(2), ample()).map(|key| key.holder()));
        // It asks again and again, and who is present, too.
        while one.requests() < 20 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it has stopped asking");
            thread::yield_now();
        }
        network.activate(&two, ActivationCause::Restarted);
        announce(&network, &two);
        assert_eq!(asking.join().unwrap().unwrap().instance, two.instance());
    });
    assert_eq!(one.sessions(), 1, "the session was as good as before");
    let asked = network.directory.1.load(Ordering::SeqCst) - asked;
    let usual = begun.elapsed().as_millis() / 250 + 1;
    assert!(u128::try_from(asked).unwrap() > 2 * usual, "{asked} questions are not many");
}

/// Two visits each: when the request has come, and when it may be answered.
static GATE: Barrier = Barrier::new(2);

/// The holder was the active one when it was asked, and the log has gone on since.
#[test]
fn an_answer_of_a_holder_that_was_replaced_meanwhile_is_thrown_away() {
    let held_back: Script = |request, count| {
        if count == 1 {
            GATE.wait();
            GATE.wait();
        }
        serve(request, count)
    };
    let network = Network::exclusive();
    let (one, two) = (network.instance(1, held_back), network.instance(2, serve));
    network.activate(&one, ActivationCause::First);
    announce(&network, &one);
    let mut client = network.patient_client();
    client.get(&request(1), ample()).unwrap();
    thread::scope(|scope| {
        let asking = scope.spawn(move || client.get(&request(2), ample()).map(|key| key.holder()));
        GATE.wait();
        network.activate(&two, ActivationCause::Restarted);
        network.log.wait_for_follower();
        GATE.wait();
        // The directory still names the one before: it is asked no more, over whichever session.
        let begun = Instant::now();
        while one.sessions() < 2 && !asking.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the session was kept");
            thread::yield_now();
        }
        announce(&network, &two);
        assert_eq!(asking.join().unwrap().unwrap().instance, two.instance());
    });
    assert_eq!((one.sessions(), one.requests()), (2, 2));
}
