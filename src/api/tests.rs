mod late;

use std::{
    net::Ipv4Addr,
    sync::{Mutex, mpsc},
};

use super::*;
use crate::{
    crypto::SecretBytes,
    keyring::{CacheExpiry, KeyVersion},
    keystore::{KeyStore, StoreError, mem::TroubledStore},
    name::KeyName,
    policy::{Pattern, Policy},
    text::encode::base64,
};

const CLIENT: Identity = Identity::new([1; 32]);
const ADMIN: Identity = Identity::new([2; 32]);

/// A server without sockets: jobs run at once, or wait to be run, or are refused.
struct House {
    api: Arc<Api>,
    store: Arc<TroubledStore>,
    peer: Peer,
    /// The client does not wait for late answers.
    is_gone: bool,
    jobs: Jobs,
    answers: Mutex<mpsc::Receiver<(u32, Reply)>>,
    sender: mpsc::Sender<(u32, Reply)>,
}

enum Jobs {
    AtOnce,
    Kept(Mutex<Vec<Job>>),
    Refused,
}

impl Connection for House {
    fn peer(&self) -> Peer {
        self.peer
    }

    fn address(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }

    fn responder(&self, stream: u32) -> Box<dyn Respond> {
        Box::new(Responder(stream, self.sender.clone(), !self.is_gone))
    }

    fn listener(&self, stream: u32, _lost: Arc<AtomicU64>) -> Arc<dyn Listen> {
        Arc::new(Ear(stream, self.sender.clone()))
    }

    fn submit(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Jobs::AtOnce => job(),
            Jobs::Kept(jobs) => jobs.lock().unwrap().push(job),
            Jobs::Refused => return Err(job),
        }
        Ok(())
    }
}

/// Takes events of a log stream as if they were answers.
struct Ear(u32, mpsc::Sender<(u32, Reply)>);

impl Listen for Ear {
    fn tell(&self, event: &Arc<[u8]>) {
        let body = SecretBytes::from(event.to_vec());
        let _ = self.1.send((self.0, Reply { body, ..Reply::empty(0) }));
    }

    fn end(&self) {
        let _ = self.1.send((self.0, Reply::empty(0)));
    }
}

struct Responder(u32, mpsc::Sender<(u32, Reply)>, bool);

impl Respond for Responder {
    fn respond(self: Box<Self>, reply: Reply) {
        let _ = self.1.send((self.0, reply));
    }

    fn is_wanted(&self) -> bool {
        self.2
    }
}

fn house() -> House {
    house_with(&["/v1/*"], &[], &[])
}

fn house_with(allow: &[&str], deny: &[&str], api: &[ApiConfig]) -> House {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
    let policy = Policy {
        name: "app".into(),
        allow: patterns(allow),
        deny: patterns(deny),
        identities: vec![CLIENT.to_string()],
    };
    let store = Arc::new(TroubledStore::new());
    let keyring = keyring(&store);
    keyring.create(&KeyName::parse("a").unwrap(), &KeyVersion::generate("me").unwrap()).unwrap();
    let state = State::new(PolicySet::new(ADMIN.to_string(), vec![policy]), keyring, Proxies::default(), api);
    let (sender, answers) = mpsc::channel();
    let api =
        Arc::new(Api::new(state, &LogConfig { error: 8, audit: 100, file: None }, None, Arc::default()));
    let (peer, answers) = (Peer::Known(CLIENT), Mutex::new(answers));
    House { api, store, peer, is_gone: false, jobs: Jobs::AtOnce, answers, sender }
}

/// With an empty cache.
fn keyring(store: &Arc<TroubledStore>) -> Arc<Keyring> {
    let no_expiry = CacheExpiry { any: Duration::ZERO, unused: Duration::ZERO, offline: Duration::ZERO };
    Arc::new(Keyring::new(Arc::clone(store) as Arc<dyn KeyStore>, no_expiry, Arc::default()))
}

impl House {
    /// One request as HTTP hands it over, with a body if there is one: status and body of the reply.
    fn call(&self, method: &str, target: &str, body: Option<&str>) -> (u16, String) {
        let reply = self.reply(method, target, body);
        (reply.status, String::from_utf8(reply.body.to_vec()).unwrap())
    }

    fn reply(&self, method: &str, target: &str, body: Option<&str>) -> Reply {
        self.begin(1, method, target, body)
            .unwrap_or_else(|| self.answers.lock().unwrap().try_recv().unwrap().1)
    }

    fn begin(&self, stream: u32, method: &str, target: &str, body: Option<&str>) -> Option<Reply> {
        let mut head = Head::new();
        head.set_method(method.as_bytes());
        head.set_target(target.as_bytes());
        let mut session = Session::new(&self.api, self);
        match session.admit(&head) {
            Admit::Refuse(reply) => Some(reply),
            Admit::Accept { ticket, body_limit, .. } => {
                let bytes = body.unwrap_or("").as_bytes();
                let mut body = Body {
                    bytes: SecretBytes::from(bytes[..bytes.len().min(body_limit)].to_vec()),
                    overflow: bytes.len() > body_limit,
                    announced: body.is_some(),
                };
                session.serve(stream, ticket, &head, &mut body)
            }
        }
    }

    /// The request fails with this status and text.
    #[track_caller]
    fn fails(&self, method: &str, target: &str, body: Option<&str>, status: u16, message: &str) {
        let expected = format!("{{\"message\":\"{message}\"\n}}");
        assert_eq!(self.call(method, target, body), (status, expected), "{method} {target} {body:?}");
    }

    fn metrics(&self) -> String {
        self.call("GET", "/v1/metrics", None).1
    }
}

#[test]
fn error_texts_are_the_originals() {
    let house = house();
    let key = base64(&[7; 32]);
    let import = |key: &str, cipher: &str| format!("{{\"key\":\"{key}\",\"cipher\":\"{cipher}\"}}");
    for (method, target, body, status, message) in [
        ("GET", "/v1/key/create/x", None, 405, "received method 'GET' expected 'PUT'"),
        ("HEAD", "/version", None, 405, "received method 'HEAD' expected 'GET'"),
        ("PUT", "/v1/key/create/a", None, 400, "key already exists"),
        (
            "PUT",
            "/v1/key/create/a.b",
            None,
            400,
            "key name 'a.b' is empty, too long or contains invalid characters",
        ),
        (
            "PUT",
            "/v1/key/create/",
            None,
            400,
            "key name '' is empty, too long or contains invalid characters",
        ),
        (
            "GET",
            "/v1/key/describe/%3Cb%26%3E",
            None,
            400,
            "key name '\\u003cb\\u0026\\u003e' is empty, too long or contains invalid characters",
        ),
        ("GET", "/v1/key/describe/none", None, 404, "key does not exist"),
        ("DELETE", "/v1/key/delete/none", None, 404, "key does not exist"),
        ("PUT", "/v1/key/generate/none", None, 404, "key does not exist"),
        ("GET", "/v1/key/list/*a", None, 400, "listing pattern '*a' is empty, too long or is invalid"),
        ("GET", "/v1/policy/list/_", None, 400, "listing pattern '_' is empty, too long or is invalid"),
        ("GET", "/v1/policy/describe/none", None, 404, "policy does not exist"),
        (
            "GET",
            "/v1/policy/read/a.b",
            None,
            400,
            "policy name 'a.b' is empty, too long or contains invalid characters",
        ),
        ("GET", "/v1/identity/describe/none", None, 404, "identity does not exist"),
        (
            "GET",
            "/v1/identity/describe/a.b",
            None,
            400,
            "identity 'a.b' is empty, too long or contains invalid characters",
        ),
        ("PUT", "/v1/key/encrypt/a", Some("x"), 400, "invalid request body"),
        ("PUT", "/v1/key/generate/a", Some(""), 400, "invalid request body"),
        ("PUT", "/v1/key/import/b", Some("[]"), 400, "invalid import key request body"),
        (
            "PUT",
            "/v1/key/import/b",
            Some(&import(&key, "aes256")),
            406,
            "algorithm 'aes256' is not supported",
        ),
        ("PUT", "/v1/key/import/b", Some("{}"), 406, "algorithm '' is not supported"),
        ("PUT", "/v1/key/import/b", Some(&import("AAAA", "AES256")), 406, "invalid key size for 'AES256'"),
        ("PUT", "/v1/key/import/a", Some(&import(&key, "ChaCha20")), 400, "key already exists"),
        (
            "PUT",
            "/v1/key/decrypt/a",
            Some("{\"ciphertext\":\"AAAA\"}"),
            400,
            "decryption failed: ciphertext is not authentic",
        ),
    ] {
        house.fails(method, target, body, status, message);
    }
}

#[test]
fn wrong_methods_name_the_right_one_in_accept() {
    let (status, text) = house().call(&"M".repeat(4_000), "/version", None);
    assert!(status == 405 && text.len() < 200, "{text}");
    let reply = house().reply("DELETE", "/v1/key/create/x", None);
    assert_eq!(reply.extra, Some(("accept", "PUT".to_owned())));
}

#[test]
fn unknown_paths_and_odd_paths_are_answered_before_anybody_is_asked_who_he_is() {
    let mut house = house();
    house.peer = Peer::NoCertificate;
    let reply = house.reply("PUT", "/v1/nothing", None);
    assert_eq!((reply.status, &reply.body[..]), (404, &b"404 page not found\n"[..]));
    assert_eq!(reply.content_type, "text/plain; charset=utf-8");
    assert_eq!(reply.extra, Some(("x-content-type-options", "nosniff".into())));
    let reply = house.reply("GET", "/v1/key/list?x=1", None);
    assert_eq!((reply.status, reply.extra), (307, Some(("location", "/v1/key/list/?x=1".into()))));
    assert_eq!(&reply.body[..], b"<a href=\"/v1/key/list/?x=1\">Temporary Redirect</a>.\n\n");
    let reply = house.reply("POST", "/v1//key/create/a", None);
    assert_eq!((reply.status, reply.content_type, reply.body.len()), (307, "", 0));
    house.fails("GET", "/v1/key/create/x", None, 405, "received method 'GET' expected 'PUT'");
}

#[test]
fn who_the_client_is_decides_after_the_method_and_before_the_name() {
    let mut house = house_with(&["/v1/key/*"], &["/v1/key/delete/*"], &[]);
    house.fails("DELETE", "/v1/key/delete/a", None, 403, "not authorized: insufficient permissions");
    house.fails("GET", "/v1/status", None, 403, "not authorized: insufficient permissions");
    house.fails("DELETE", "/v1/key/delete/a.b", None, 403, "not authorized: insufficient permissions");
    for (peer, status, message) in [
        (Peer::NoCertificate, 400, "tls: client certificate is required"),
        (Peer::SeveralCertificates, 400, "tls: received more than one client certificate"),
        (Peer::Known(Identity::new([9; 32])), 403, "not authorized: insufficient permissions"),
    ] {
        house.peer = peer;
        house.fails("PUT", "/v1/key/create/a.b", None, status, message);
        assert_eq!(house.call("GET", "/version", None).0, 200, "nobody is asked for the version");
    }
    house.peer = Peer::Known(ADMIN);
    assert_eq!(house.call("DELETE", "/v1/key/delete/a", None).0, 200);
    assert!(!house.metrics().contains("403"), "refusals are not counted");
}

#[test]
fn a_path_is_decoded_before_a_policy_looks_at_it() {
    let house = house_with(&["/v1/key/describe/a", "/v1/key/list/*"], &[], &[]);
    assert_eq!(house.call("GET", "/v1/key/describe/%61?x=1", None).0, 200);
    assert_eq!(house.call("GET", "/v1/%6bey/list/", None).0, 200);
}

#[test]
fn skipping_authentication_lets_anybody_in_on_that_path_only() {
    let open = ApiConfig { path: "/v1/ready".into(), skip_auth: true, timeout: Some(Duration::from_secs(3)) };
    let mut house = house_with(&["/v1/api"], &[], &[open]);
    assert!(
        house
            .call("GET", "/v1/api", None)
            .1
            .contains("{\"method\":\"GET\",\"path\":\"/v1/ready\",\"max_body\":0,\"timeout\":3}")
    );
    house.peer = Peer::NoCertificate;
    assert_eq!(house.call("GET", "/v1/ready", None), (200, String::new()));
    house.fails("GET", "/v1/status", None, 400, "tls: client certificate is required");
}

#[test]
fn routes_are_told_in_the_originals_form() {
    let (_, routes) = house().call("GET", "/v1/api", None);
    assert!(
        routes.starts_with("[{\"method\":\"GET\",\"path\":\"/v1/api\",\"max_body\":0,\"timeout\":10},"),
        "{routes}"
    );
    assert!(
        routes.ends_with("{\"method\":\"GET\",\"path\":\"/version\",\"max_body\":0,\"timeout\":10}]\n"),
        "{routes}"
    );
    assert!(
        routes.contains("{\"method\":\"DELETE\",\"path\":\"/v1/key/delete/\",\"max_body\":0,\"timeout\":15}")
    );
    assert!(
        routes
            .contains("{\"method\":\"PUT\",\"path\":\"/v1/key/hmac/\",\"max_body\":1000000,\"timeout\":15}")
    );
}

#[test]
fn keys_are_made_described_listed_and_deleted() {
    let house = house();
    assert_eq!(house.call("POST", "/v1/key/create/b", None), (200, String::new()));
    let (status, described) = house.call("GET", "/v1/key/describe/b", None);
    assert_eq!(status, 200);
    let algorithm = crate::keyring::Algorithm::preferred().name();
    assert!(
        described.starts_with(&format!("{{\"name\":\"b\",\"algorithm\":\"{algorithm}\",\"created_at\":\"20")),
        "{described}"
    );
    assert!(described.ends_with(&format!("Z\",\"created_by\":\"{CLIENT}\"}}\n")), "{described}");
    assert_eq!(house.call("GET", "/v1/key/list/", None).1, "{\"names\":[\"a\",\"b\"]}\n");
    assert_eq!(house.call("GET", "/v1/key/list/b%2A", None).1, "{\"names\":[\"b\"]}\n");
    assert_eq!(house.call("GET", "/v1/key/list/c", None).1, "{\"names\":[]}\n");
    assert_eq!(house.call("DELETE", "/v1/key/delete/b", None), (200, String::new()));
    house.fails("GET", "/v1/key/describe/b", None, 404, "key does not exist");
}

#[test]
fn bodies_are_read_as_the_original_reads_them() {
    let house = house();
    let encrypts = |body: &str| house.call("PUT", "/v1/key/encrypt/a", Some(body)).0;
    for body in [
        "{}",
        "null",
        "{\"plaintext\":null}",
        "{\"plaintext\":\"\"}",
        "{\"PLAINTEXT\":\"SGVsbG8=\"} trailing",
        " {\"plaintext\":[1,2]}",
        "{\"x\":1,\"version\":\"v\"}",
    ] {
        assert_eq!(encrypts(body), 200, "{body}");
    }
    for body in [
        "",
        "[]",
        "\"x\"",
        "123",
        "{",
        "{\"plaintext\":\"SGVsbG8\"}",
        "{\"plaintext\":\"-_-_\"}",
        "{\"plaintext\":5}",
        "{\"version\":5}",
        "{\"context\":true}",
    ] {
        assert_eq!(encrypts(body), 400, "{body}");
    }
    assert_eq!(house.call("PUT", "/v1/key/generate/a", None).0, 200, "no body is an empty context");
    let spaces = " ".repeat(999_998);
    assert_eq!(encrypts(&format!("{{{spaces}}}")), 200, "a million bytes");
    assert_eq!(encrypts(&format!("{{{spaces} }}")), 400, "one more");
    assert_eq!(encrypts(&format!("{{}}{spaces}xxx")), 200, "what follows the value does not count");
}

#[test]
fn data_keys_decrypt_with_their_context_only() {
    let house = house();
    let (_, made) = house.call("PUT", "/v1/key/generate/a", Some("{\"context\":\"AQID\"}"));
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let body = |context: &str| format!("{{\"ciphertext\":{},\"context\":\"{context}\"}}", made["ciphertext"]);
    let (status, opened) = house.call("POST", "/v1/key/decrypt/a", Some(&body("AQID")));
    assert_eq!((status, opened), (200, format!("{{\"plaintext\":{}}}\n", made["plaintext"])));
    house.fails(
        "PUT",
        "/v1/key/decrypt/a",
        Some(&body("AQIE")),
        400,
        "decryption failed: ciphertext is not authentic",
    );
    assert_eq!(house.call("PUT", "/v1/key/hmac/a", Some("{}")).1.len(), "{\"hmac\":\"\"}\n".len() + 44);
}

#[test]
fn policies_and_identities_are_described_in_the_sdks_shapes() {
    let mut house = house_with(&["/v1/*", "/b"], &["/c"], &[]);
    let started = house.api.started.to_string();
    let made = format!("\"created_at\":\"{started}\",\"created_by\":\"{ADMIN}\"");
    let rules = "\"allow\":{\"/b\":{},\"/v1/*\":{}},\"deny\":{\"/c\":{}}";
    for (target, body) in [
        ("/v1/policy/describe/app", format!("{{\"name\":\"app\",{made}}}\n")),
        ("/v1/policy/read/app", format!("{{\"name\":\"app\",{rules},{made}}}\n")),
        ("/v1/policy/list/a*", "{\"names\":[\"app\"],\"continue_at\":\"\"}\n".into()),
        (
            "/v1/identity/list/",
            format!("{{\"identities\":[\"{CLIENT}\",\"{ADMIN}\"],\"continue_at\":\"\"}}\n"),
        ),
        (&format!("/v1/identity/describe/{CLIENT}"), format!("{{\"policy\":\"app\",{made}}}\n")),
        (
            &format!("/v1/identity/describe/{ADMIN}"),
            format!("{{\"admin\":true,\"created_at\":\"{started}\"}}\n"),
        ),
        (
            "/v1/identity/self/describe",
            format!("{{\"identity\":\"{CLIENT}\",{made},\"policy\":\"app\",{rules}}}\n"),
        ),
    ] {
        assert_eq!(house.call("GET", target, None), (200, body), "{target}");
    }
    house.peer = Peer::Known(ADMIN);
    assert!(
        house
            .call("GET", "/v1/identity/self/describe", None)
            .1
            .starts_with(&format!("{{\"identity\":\"{ADMIN}\",\"admin\":true,"))
    );
    for peer in [Peer::NoCertificate, Peer::Known(Identity::new([9; 32]))] {
        house.peer = peer;
        house.fails("GET", "/v1/identity/self/describe", None, 404, "identity does not exist");
    }
}

#[test]
fn a_store_in_trouble_is_told_apart_from_a_missing_key() {
    let house = house();
    house.store.fail_with(Some(StoreError::Unreachable("gone".into())));
    for (method, target, status, message) in [
        ("GET", "/v1/key/describe/b", 502, "failed to read key"),
        ("PUT", "/v1/key/create/b", 502, "failed to create key"),
        ("DELETE", "/v1/key/delete/b", 502, "failed to delete key"),
        ("GET", "/v1/key/list/", 502, "failed to list keys"),
        ("GET", "/v1/ready", 504, "key store is not reachable"),
    ] {
        house.fails(method, target, None, status, message);
    }
    let (status, text) = house.call("GET", "/v1/status", None);
    assert_eq!(status, 200);
    assert!(text.contains("\"keystore_unreachable\":true") && !text.contains("latency"), "{text}");
    house.store.fail_with(Some(StoreError::Failed("broken".into())));
    house.fails("GET", "/v1/ready", None, 502, "key store is unavailable");
    house.store.fail_with(None);
    assert!(house.call("GET", "/v1/status", None).1.contains("\"keystore_latency\":1}"));
}

#[test]
fn requests_are_counted_by_their_outcome_and_the_rest_is_not() {
    let house = house();
    assert!(!house.metrics().contains("request_success"));
    house.call("PUT", "/v1/key/generate/a", None);
    house.call("GET", "/v1/key/describe/none", None);
    house.call("GET", "/version", None);
    house.call("GET", "/v1/status", None);
    let text = house.metrics();
    assert!(text.contains("kes_http_request_success{code=\"200\"} 1\n"), "{text}");
    assert!(text.contains("kes_http_request_error{code=\"404\"} 1\n"), "{text}");
    assert!(text.contains("kes_http_response_time_count 2\n"), "{text}");
    assert!(!text.contains("request_failure"), "{text}");
}

#[test]
fn a_panic_in_a_handler_costs_one_request() {
    struct Panics;
    impl KeyStore for Panics {
        fn describe(&self) -> String {
            String::new()
        }
        fn status(&self) -> Result<Duration, StoreError> {
            panic!("on purpose")
        }
        fn create(&self, _: &KeyName, _: &[u8]) -> Result<(), StoreError> {
            panic!("on purpose")
        }
        fn get(&self, _: &KeyName) -> Result<SecretBytes, StoreError> {
            panic!("on purpose")
        }
        fn delete(&self, _: &KeyName) -> Result<(), StoreError> {
            Ok(())
        }
        fn list(&self, _: &str) -> Result<Vec<KeyName>, StoreError> {
            Ok(Vec::new())
        }
    }
    let house = house();
    let no_expiry = CacheExpiry { any: Duration::ZERO, unused: Duration::ZERO, offline: Duration::ZERO };
    let policies = house.api.state().policies.clone();
    let state = State::new(
        policies,
        Arc::new(Keyring::new(Arc::new(Panics), no_expiry, Arc::default())),
        Proxies::default(),
        &[],
    );
    house.api.swap(state);
    house.fails("GET", "/v1/ready", None, 502, "key store is unavailable");
    house.fails("PUT", "/v1/key/create/b", None, 500, "internal server error");
    assert_eq!(house.call("GET", "/v1/key/list/", None).0, 200);
    assert!(house.metrics().contains("kes_http_request_failure{code=\"500\"} 1\n"));
}

#[test]
fn a_log_stream_ends_with_the_right_to_it() {
    let house = house();
    let _streams = ["/v1/log/audit", "/v1/log/error"].map(|path| house.begin(7, "GET", path, None).unwrap());
    let old = house.api.state();
    let state = |allow: &str| {
        let mut policies = old.policies.policies.clone();
        policies[0].allow = vec![Pattern::new(allow)];
        State::new(
            PolicySet::new(ADMIN.to_string(), policies),
            Arc::clone(&old.keyring),
            Proxies::default(),
            &[],
        )
    };
    let ended = || house.answers.lock().unwrap().try_iter().count();
    house.api.swap(state("/v1/log/*"));
    assert_eq!(ended(), 0);
    house.api.swap(state("/v1/log/error"));
    assert_eq!((ended(), house.api.audit.feed().listening(), house.api.log.feed().listening()), (1, 0, 1));
    // One that is let in before the reload and begins after it.
    let mut head = Head::new();
    head.set_method(b"GET");
    head.set_target(b"/v1/log/error");
    let mut session = Session::new(&house.api, &house);
    let Admit::Accept { ticket, .. } = session.admit(&head) else { panic!("refused") };
    house.api.swap(state("/version"));
    assert_eq!((ended(), house.api.log.feed().listening()), (1, 0));
    assert_eq!(session.serve(8, ticket, &head, &mut Body::default()).unwrap().status, 403);
    assert_eq!(house.api.log.feed().listening(), 0);
}

#[test]
fn log_streams_deliver_what_happens_from_now_on() {
    let house = house();
    let audit = house.begin(7, "GET", "/v1/log/audit", None).unwrap();
    assert_eq!((audit.status, audit.content_type), (200, "application/x-ndjson"));
    assert!(audit.tail.is_some() && audit.body.is_empty());
    house.api.set_logs(&LogConfig { error: 8, audit: 0, file: None }, None);
    assert!(house.begin(1, "PUT", "/v1/key/create/new", None).is_none());
    let (stream, event) = house.answers.lock().unwrap().try_recv().unwrap();
    assert_eq!(house.answers.lock().unwrap().try_recv().unwrap().1.status, 200);
    let event: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!((stream, &event["request"]["path"]), (7, &"/v1/key/create/new".into()));
    assert_eq!(event["request"]["identity"], CLIENT.to_string());
    assert_eq!(event["response"]["code"], 200);
    drop(audit);
    assert_eq!(house.call("PUT", "/v1/key/create/newer", None).0, 200);
    assert!(house.answers.lock().unwrap().try_recv().is_err(), "nobody listens any more");

    let errors = house.begin(9, "GET", "/v1/log/error", None).unwrap();
    assert_eq!(house.call("PUT", "/v1/key/encrypt/a", Some("junk")).0, 400);
    let (stream, event) = house.answers.lock().unwrap().try_recv().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
    let message = event["message"].as_str().unwrap();
    assert!(
        stream == 9 && message.contains("level=ERROR msg=") && message.contains("req.path=/v1/key/encrypt/a")
    );
    let metrics = house.metrics();
    assert!(metrics.contains("kes_log_audit_events 1\n") && metrics.contains("kes_log_error_events 1\n"));
    drop(errors);
}

#[test]
fn probes_are_answered_a_few_routes_without_a_certificate() {
    let house = House { peer: Peer::NoCertificate, ..house() };
    let probe = |method: &str, target: &str| {
        let mut head = Head::new();
        head.set_method(method.as_bytes());
        head.set_target(target.as_bytes());
        let mut session = Session::for_probes(&house.api, &house);
        match session.admit(&head) {
            Admit::Refuse(reply) => reply.status,
            Admit::Accept { ticket, .. } => {
                let reply = session.serve(1, ticket, &head, &mut Body::default());
                reply.unwrap_or_else(|| house.answers.lock().unwrap().try_recv().unwrap().1).status
            }
        }
    };
    for target in ["/version", "/v1/ready", "/v1/status", "/v1/metrics"] {
        assert_eq!((probe("GET", target), probe("PUT", target)), (200, 405), "{target}");
    }
    for target in
        ["/", "/v1/api", "/v1/key/list/", "/v1/key/list", "/v1/key/generate/a", "/v1/log/error", "//version"]
    {
        assert_eq!((probe("GET", target), probe("PUT", target)), (404, 404), "{target}");
    }
}
