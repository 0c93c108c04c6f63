//! Requests that are answered from another thread.

use super::*;

#[test]
fn a_full_queue_is_answered_at_once_and_nobody_waits_for_ever() {
    let mut house = house();
    house.jobs = Jobs::Refused;
    house.fails("PUT", "/v1/key/create/b", None, 503, "server is busy");
    while house.answers.lock().unwrap().try_recv().is_ok() {}
    house.fails("PUT", "/v1/key/generate/a", None, 503, "server is busy");
    house.jobs = Jobs::AtOnce;
    assert_eq!(house.call("PUT", "/v1/key/generate/a", None).0, 200, "the fetch was not left half begun");
    assert!(house.metrics().contains("kes_http_request_active 0\n"));
}

#[test]
fn many_requests_for_one_key_wait_for_one_fetch() {
    let mut house = house();
    house.jobs = Jobs::Kept(Mutex::default());
    for stream in 0..10 {
        assert!(house.begin(stream, "PUT", "/v1/key/generate/a", None).is_none());
    }
    let Jobs::Kept(jobs) = &house.jobs else { unreachable!() };
    let jobs = std::mem::take(&mut *jobs.lock().unwrap());
    assert_eq!(jobs.len(), 1);
    jobs.into_iter().for_each(|job| job());
    let mut streams: Vec<u32> = house
        .answers
        .lock()
        .unwrap()
        .try_iter()
        .inspect(|(_, reply)| assert_eq!(reply.status, 200))
        .map(|(stream, _)| stream)
        .collect();
    streams.sort_unstable();
    assert_eq!(streams, Vec::from_iter(0..10));
    assert_eq!(house.store.gets(), 1);
}

#[test]
fn what_waits_for_keys_is_bounded() {
    let mut house = house();
    house.jobs = Jobs::Kept(Mutex::default());
    let body = format!("{{\"plaintext\":\"{}\"}}", base64(&[7; 700_000]));
    let count = (0..100).take_while(|&n| house.begin(n, "PUT", "/v1/key/encrypt/a", Some(&body)).is_none());
    let count = count.count();
    assert!((80..=MAX_WAITING / 700_000).contains(&count), "{count}");
    assert_eq!(house.begin(100, "PUT", "/v1/key/encrypt/a", Some(&body)).unwrap().status, 503);
    let Jobs::Kept(jobs) = std::mem::replace(&mut house.jobs, Jobs::AtOnce) else { unreachable!() };
    jobs.into_inner().unwrap().into_iter().for_each(|job| job());
    let answered = house.answers.lock().unwrap().try_iter().filter(|(_, reply)| reply.status == 200).count();
    assert_eq!(answered, count);
    assert_eq!(house.api.waiting.used(), 0);
    assert_eq!(house.call("PUT", "/v1/key/encrypt/a", Some(&body)).0, 200);
}

#[test]
fn a_key_that_is_deleted_during_a_reload_is_in_no_cache() {
    let mut house = house();
    house.jobs = Jobs::Kept(Mutex::default());
    assert!(house.begin(1, "DELETE", "/v1/key/delete/a", None).is_none());
    let Jobs::Kept(jobs) = std::mem::replace(&mut house.jobs, Jobs::AtOnce) else { unreachable!() };
    let old = house.api.state();
    let (policies, keyring) = (old.policies.clone(), keyring(&house.store));
    house.api.swap(State::new(policies, keyring, Proxies::default(), &[]));
    assert_eq!(house.call("PUT", "/v1/key/generate/a", None).0, 200);
    jobs.into_inner().unwrap().into_iter().for_each(|job| job());
    assert_eq!(house.answers.lock().unwrap().recv().unwrap().1.status, 200);
    assert_eq!(house.call("PUT", "/v1/key/generate/a", None).0, 404);
}

#[test]
fn a_request_whose_client_is_gone_is_neither_worked_on_nor_a_failure() {
    let mut house = house();
    house.is_gone = true;
    assert!(house.begin(1, "PUT", "/v1/key/create/b", None).is_none());
    assert!(house.answers.lock().unwrap().try_recv().is_err());
    let metrics = house.metrics();
    assert!(!metrics.contains("request_failure") && !metrics.contains("request_success"), "{metrics}");
    assert!(metrics.contains("kes_http_request_abandoned_total 1\n"), "{metrics}");
    assert!(metrics.contains("kes_http_request_active 0\n"), "{metrics}");
    assert_eq!(house.store.list("").unwrap().len(), 1, "no key was made");
}
