//! Transcripts of every command that asks a server: in a pipe and on a terminal, for people and as JSON, success and
//! failure (`cli` §3 to §5).

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use serde_json::Value;
use support::Server;
use terminal::{Env, is_like, on_terminal, piped, wait_for};

/// A server, and an environment that leads to it.
struct House {
    server: Server,
    address: String,
}

impl House {
    fn new() -> Self {
        let server = Server::start("");
        let address = server.address.to_string();
        Self { server, address }
    }

    fn with_env<T>(&self, act: impl FnOnce(Env<'_>) -> T) -> T {
        act(&[
            ("KES_SERVER", &self.address),
            ("KES_CLIENT_KEY", "app.key"),
            ("KES_CLIENT_CERT", "app.crt"),
            ("SSL_CERT_FILE", "server.crt"),
        ])
    }

    fn run(&self, line: &str, input: &str) -> terminal::Ran {
        let words: Vec<&str> = line.split(' ').collect();
        self.with_env(|env| piped(self.server.dir.path(), env, &words, input))
    }

    /// Runs `kes LINE` in a pipe, expects success, nothing on standard error, and output like `pattern`.
    fn pipe(&self, line: &str, pattern: &str) -> String {
        self.feed(line, "", pattern)
    }

    fn feed(&self, line: &str, input: &str, pattern: &str) -> String {
        let ran = self.run(line, input);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "kes {line}: {ran:?}");
        assert!(is_like(&ran.out, pattern), "kes {line}: {:?} is not like {pattern:?}", ran.out);
        ran.out
    }

    /// Runs `kes LINE` on a terminal and expects success and output like `pattern`, with `{NAME}` and `{}` for colours.
    fn terminal(&self, line: &str, pattern: &str) {
        let (code, shown) =
            self.with_env(|env| on_terminal(self.server.dir.path(), env, &format!("\"$KES\" {line}")));
        assert_eq!(code, 0, "kes {line}: {shown}");
        let pattern = pattern.replace("{heading}", "\x1b[1;4m").replace("{good}", "\x1b[32m");
        let pattern = pattern.replace("{bad}", "\x1b[31m").replace("{}", "\x1b[0m");
        assert!(is_like(&shown, &pattern), "kes {line}: {shown:?} is not like {pattern:?}");
    }

    /// With `--json`: one document on one line in a pipe, the same document indented on a terminal.
    fn json(&self, line: &str) -> Value {
        let out = self.pipe(&format!("{line} --json"), "*\n");
        let value: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("kes {line}: {error}: {out}"));
        let line = format!("\"$KES\" {line} --json");
        let (code, shown) = self.with_env(|env| on_terminal(self.server.dir.path(), env, &line));
        let again: Value =
            serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{line}: {error}: {shown}"));
        let is_empty = value == serde_json::json!([]);
        assert!(
            code == 0 && (shown.starts_with("[\n  ") || shown.starts_with("{\n  ") || is_empty),
            "{shown}"
        );
        assert!(shown.ends_with('\n') && !shown.contains('\x1b'), "{shown:?}");
        let keys = |value: &Value| value.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&again), keys(&value), "kes {line}");
        value
    }

    /// Runs `kes LINE` and expects exit status 1, nothing on standard output, and these lines on standard error.
    fn fail(&self, line: &str, pattern: &str) {
        let ran = self.run(line, "");
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "kes {line}: {ran:?}");
        assert!(is_like(&ran.err, pattern), "kes {line}: {:?} is not like {pattern:?}", ran.err);
    }
}

#[test]
fn keys_are_created_described_listed_and_deleted() {
    let house = House::new();
    let app = house.server.app.clone();
    house.pipe("ls", "");
    assert_eq!(house.json("ls"), serde_json::json!([]));
    house.pipe("key create my-key my-key2 -k", "");
    house.terminal("key create --enclave default other", "");
    house.fail("key create my-key", "Error: failed to create key \"my-key\": key already exists\n");
    house.pipe("key create my-key fresh --if-not-exists", "");
    let ran = house.run("key create my-key fresh2 --json", "");
    assert_eq!(ran.code, 1, "one failure is enough: {ran:?}");
    let results: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results[0]["result"], "failed");
    assert_eq!(results[1], serde_json::json!({ "name": "fresh2", "result": "created" }), "all are tried");

    house.pipe("ls", "Key\nfresh\nfresh2\nmy-key\nmy-key2\nother\n");
    house.terminal("ls my", "{heading}Key{}\nmy-key\nmy-key2\n");
    house.pipe("ls -- -", "");
    for line in ["ls my-", "key ls my-*", "key ls --color never my"] {
        house.pipe(line, "Key\nmy-key\nmy-key2\n");
    }
    house.pipe("key ls --color=Always my-key2", "\x1b[1;4mKey\x1b[0m\nmy-key2\n");
    assert_eq!(house.json("key ls my-key"), serde_json::json!(["my-key", "my-key2"]));
    let owned = format!("20??-*  {app}").replace('?', "*");
    house.pipe(
        "key ls --long my",
        &format!("Key      Date                 Owner\nmy-key   {owned}\nmy-key2  {owned}\n"),
    );
    assert_eq!(house.json("key ls -l my-key2")[0]["created_by"], app.as_str());
    house.pipe("key ls nothing", "");
    house.pipe("ls nothing --json", "[]\n");

    let info = format!("Name        my-key\nAlgorithm   *\nDate        20*-*-* *:*:*\nOwner       {app}\n");
    house.pipe("key info my-key", &info);
    house.terminal("key info my-key", &info);
    let info = house.json("key info my-key");
    assert_eq!((&info["name"], &info["created_by"]), (&"my-key".into(), &app.as_str().into()));
    assert!(["AES256", "ChaCha20"].contains(&info["algorithm"].as_str().unwrap()), "{info}");
    assert!(info["created_at"].as_str().unwrap().ends_with('Z'));
    house.fail("key info nothing", "Error: failed to describe key \"nothing\": key does not exist\n");
    house.fail("key info a.b", "Error: failed to describe key \"a.b\": key name 'a.b' is empty, too long or contains invalid characters\n");
    house.fail("key info", "Error: not enough arguments. See 'kes key info --help'\n");

    house.pipe("key rm other fresh", "");
    let ran = house.run("key rm nothing fresh2", "");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "Error: failed to delete key \"nothing\": key does not exist\n")
    );
    house.pipe("key rm nothing my-key --ignore-missing", "");
    assert_eq!(house.pipe("key rm my-key2 --json", "*\n"), "{\"name\":\"my-key2\",\"result\":\"deleted\"}\n");
    house.pipe("ls", "");
}

#[test]
fn more_keys_than_fit_into_a_reply_are_all_listed() {
    let house = House::new();
    // A listing only looks at the names of the files. These fill a reply of 1 MB, and are cut off within a letter.
    let mut names: Vec<String> = ["_-_", "__", "a", "a-b", "z-", "_"].map(str::to_owned).into();
    let letters = ('0'..='9').chain('A'..='Z').chain('a'..='z').chain(['_']);
    names.extend(
        letters.flat_map(|letter| (0..220).map(move |n| format!("{letter}-{n:03}{}", "x".repeat(75)))),
    );
    for name in &names {
        house.server.dir.write(&format!("keys/{name}"), "");
    }
    names.retain(|name| !matches!(name.as_str(), "z-" | "_"));
    names.sort_unstable();

    let (status, page) = house.server.call("GET", "/v1/key/list/", "");
    let page: Value = serde_json::from_str(&page).unwrap();
    let count = page["names"].as_array().unwrap().len();
    assert!(status == 200 && count > 12_000 && count < names.len(), "{status}, {count} names");
    assert_eq!(page["continue_at"], names[count].as_str());

    for prefix in ["", "a-"] {
        let ran = house.run(format!("key ls {prefix}").trim_end(), "");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let expected = names.iter().map(String::as_str).filter(|name| name.starts_with(prefix));
        let differ = ran.out.lines().skip(1).zip(expected.clone()).find(|(listed, name)| listed != name);
        assert_eq!((differ, ran.out.lines().count()), (None, 1 + expected.count()));
    }
}

#[test]
fn secrets_are_read_from_standard_input_or_a_file() {
    let house = House::new();
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    house.server.dir.write("key.txt", &format!("{key}\n"));
    house.feed("key import a -", &format!("{key}\n"), "");
    house.pipe("key import b --file key.txt", "");
    house.pipe(&format!("key import c {key} --json"), "{\"name\":\"c\",\"result\":\"imported\"}\n");
    house.fail("key import d AAAA", "Error: failed to import \"d\": invalid key size for 'AES256'\n");
    house.fail(
        "key import d x*",
        "Error: invalid key: illegal base64 data at input byte 1. See 'kes key import --help'\n",
    );
    house.fail("key import d", "Error: not enough arguments. See 'kes key import --help'\n");
    house
        .fail("key import d --file key.txt AAAA", "Error: too many arguments. See 'kes key import --help'\n");
    house.fail("key import d --file nothing", "Error: open nothing: no such file or directory\n");

    // The message is the same, whatever way it came.
    let sum = house.pipe("key hmac a Hello", "{\"hmac\":\"*\"}\n");
    assert_eq!(house.feed("key hmac a -", "Hello", "*\n"), sum);
    house.server.dir.write("message.txt", "Hello");
    assert_eq!(house.pipe("key hmac a --file message.txt", "*\n"), sum);
    house.terminal("key hmac a Hello", "\nhmac: *=\n");
    assert_eq!(house.json("key hmac a Hello"), serde_json::from_str::<Value>(&sum).unwrap());

    let member = |text: &str, name: &str| {
        serde_json::from_str::<Value>(text).unwrap()[name].as_str().unwrap().to_owned()
    };
    for (line, input, plaintext) in [
        ("key encrypt a Hello", "", "Hello"),
        ("key encrypt a -", "with a line feed\n", "with a line feed\n"),
        ("key encrypt a --file message.txt", "", "Hello"),
        ("key encrypt a -- --Hello", "", "--Hello"),
    ] {
        let ciphertext = member(&house.feed(line, input, "{\"ciphertext\":\"*\"}\n"), "ciphertext");
        house.server.dir.write("ciphertext.txt", &format!("{ciphertext}\n"));
        house.pipe("key decrypt a --raw --file ciphertext.txt", plaintext);
        house.feed("key decrypt a - --raw", &ciphertext, plaintext);
        house.pipe(&format!("key decrypt b {ciphertext} --raw"), plaintext);
    }
    house.terminal("key encrypt a Hello", "\nciphertext: *\n");
    house.json("key encrypt a Hello");
    house.terminal("key decrypt a --file ciphertext.txt", "\nplaintext: LS1IZWxsbw==\n");
    house.pipe("key decrypt a --file ciphertext.txt", "{\"plaintext\":\"LS1IZWxsbw==\"}\n");
    house.json("key decrypt a --file ciphertext.txt");

    // A context must be given again.
    let ciphertext = member(&house.pipe("key encrypt a Hello QUJD", "*\n"), "ciphertext");
    house.pipe(&format!("key decrypt a {ciphertext} QUJD --raw"), "Hello");
    let not_authentic =
        "Error: failed to decrypt with key \"a\": decryption failed: ciphertext is not authentic\n";
    house.fail(&format!("key decrypt a {ciphertext}"), not_authentic);
    house.fail(
        "key decrypt a !",
        "Error: invalid ciphertext: illegal base64 data at input byte 0. See 'kes key decrypt --help'\n",
    );
    house.fail(
        "key decrypt a AAAA !",
        "Error: invalid context: illegal base64 data at input byte 0. See 'kes key decrypt --help'\n",
    );
    house.fail(
        "key decrypt a AAAA --raw --json",
        "Error: --raw cannot be used with --json. See 'kes key decrypt --help'\n",
    );

    house.pipe("key dek a", "{\"plaintext\":\"*\",\"ciphertext\":\"*\"}\n");
    house.terminal("key dek a QUJD", "\nplaintext:  *\nciphertext: *\n");
    let data_key = house.pipe("key dek a QUJD", "*\n");
    let ciphertext = member(&data_key, "ciphertext");
    let plaintext = member(&data_key, "plaintext");
    assert_eq!(
        member(&house.pipe(&format!("key decrypt a {ciphertext} QUJD"), "*\n"), "plaintext"),
        plaintext
    );
    house.json("key dek a");
    house.fail(
        "key dek nothing",
        "Error: failed to generate a data key with key \"nothing\": key does not exist\n",
    );
}

#[test]
fn policies_are_described_listed_shown_and_checked() {
    let house = House::new();
    let made = "20*-*-* *:*:*";
    house.pipe("policy info app", &format!("Name        app\nDate        {made}\nCreated by  disabled\n"));
    assert_eq!(house.json("policy info app")["created_by"], "disabled");
    house.fail("policy info nothing", "Error: policy does not exist\n");
    house.pipe("policy ls", "Policy\napp\n");
    house.terminal("policy ls 'a*'", "{heading}Policy{}\napp\n");
    house.pipe("ls -p", "Policy\napp\n");
    house.pipe("policy ls --long", "Policy  Date                 Owner\napp     *  disabled\n");
    assert_eq!(house.json("policy ls"), serde_json::json!(["app"]));
    assert_eq!(house.json("policy ls --long")[0]["name"], "app");
    house.pipe(
        "policy show app",
        "{\"allow\":{\"/v1/*\":{}},\"deny\":{},\"created_at\":\"*Z\",\"created_by\":\"disabled\"}\n",
    );
    house.terminal(
        "policy show app",
        &format!("{{good}}Allow:{{}}\n  · /v1/*\n\nCreated at: {made}\nCreated by: disabled\n"),
    );
    house.pipe(
        "policy show app --color never",
        &format!("Allow:\n  · /v1/*\n\nCreated at: {made}\nCreated by: disabled\n"),
    );
    assert_eq!(house.json("policy show app")["allow"], serde_json::json!({ "/v1/*": {} }));
    house.fail("policy show nothing", "Error: failed to read policy \"nothing\": policy does not exist\n");

    house.pipe("policy check app /v1/key/create/a", "allowed: /v1/*\n");
    let ran = house.run("policy check app /version", "");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "denied: no rule allows it\n", ""));
    assert_eq!(house.json("policy check app /v1/status")["allowed"], true);
    house.server.dir.write(
        "other.yml",
        "address: 127.0.0.1:0\nadmin: { identity: disabled }\ntls: { key: server.key, cert: server.crt }\n\
         policy:\n  b:\n    allow: ['/v1/key/*']\n    deny: ['/v1/key/delete/*']\nkeystore: { fs: { path: ./k } }\n",
    );
    house.pipe("policy check --config other.yml b /v1/key/create/a", "allowed: /v1/key/*\n");
    let typo =
        std::fs::read_to_string(house.server.dir.join("other.yml")).unwrap().replace("allow:", "alow:");
    house.server.dir.write("typo.yml", &typo);
    let ran = house.run("policy check --config typo.yml b /v1/key/create/a", "");
    assert!(ran.code != 0 && ran.err.contains("\"alow\" (did you mean \"allow\"?)"), "{ran:?}");
    let ran = house.run("policy check --config other.yml b /v1/key/delete/a --json", "");
    assert_eq!(ran.code, 1, "{ran:?}");
    let verdict: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&verdict["allowed"], &verdict["rule"]), (&false.into(), &"/v1/key/delete/*".into()));
    house.fail(
        "policy check --config other.yml a /v1/status",
        "Error: there is no policy \"a\" in other.yml\n",
    );
    house.fail(
        "policy check app v1/status",
        "Error: the path \"v1/status\" does not begin with a slash. See 'kes policy check --help'\n",
    );
}

#[test]
fn identities_are_described_and_listed() {
    let house = House::new();
    let app = house.server.app.clone();
    let rows = format!(
        "Identity    {app}\nPolicy      app\nCreated At  20*-*-* *:*:*\nRole        User\nCreated By  disabled\n"
    );
    house.pipe(&format!("identity info {app}"), &rows);
    house.pipe("identity info", &format!("{rows}\nAllow:\n  · /v1/*\n"));
    house.terminal("identity info", &format!("{rows}\n{{good}}Allow:{{}}\n  · /v1/*\n"));
    let own = house.json("identity info");
    assert_eq!((&own["identity"], &own["admin"]), (&app.as_str().into(), &false.into()));
    assert_eq!((&own["allow"], &own["deny"]), (&serde_json::json!(["/v1/*"]), &serde_json::json!([])));
    assert_eq!(house.json(&format!("identity info {app}"))["policy"], "app");
    house.fail(&format!("identity info {}", "0".repeat(64)), "Error: identity does not exist\n");
    house.pipe(&format!("identity ls {}", &app[..8]), &format!("Identity\n{app}\n"));
    house.terminal(&format!("ls -i '{}*'", &app[..8]), &format!("{{heading}}Identity{{}}\n{app}\n"));
    assert_eq!(house.json("ls --identity").as_array().unwrap().len(), 2, "the admin is one of them");
    house.fail("ls -ip", "Error: cannot list identities and policies at once. See 'kes ls --help'\n");
}

#[test]
fn the_status_tells_whether_a_server_can_be_reached() {
    let house = House::new();
    let address = &house.address;
    let page = "  Version   *\n  Uptime    * second*\n  Latency   *ms\n  OS        linux\n  CPUs      * *\n  Memory\n\
         \u{20} · Heap    *B\n  · Stack   *B\n  Keystore  reachable, *ms\n";
    house.pipe("status", &format!("● {address}\n{page}"));
    house.terminal("status", &format!("{{good}}●{{}} {address}\n{page}"));
    house.pipe("status -s", &format!("● {address}\n"));
    let status = house.json("status");
    assert!(status["keystore_latency"].as_u64().unwrap() >= 1 && status["os"] == "linux", "{status}");
    let routes = house.json("status --api");
    assert_eq!(routes.as_array().unwrap().len(), 22, "{routes}");
    let ran = house.run("status --short --api", "");
    let expected = format!(
        "● {address}\n\nMethod  API                         Timeout\nGET     /v1/api                     10s\n"
    );
    assert!(ran.code == 0 && ran.out.starts_with(&expected), "{ran:?}");
    assert!(ran.out.contains("/v1/log/audit               Inf\n"), "{ran:?}");
    house.pipe("ready", &format!("● {address} is ready\n"));
    house.terminal("ready", &format!("{{good}}●{{}} {address} is ready\n"));
    assert_eq!(house.json("ready --wait 1m")["ready"], true);
    house.pipe("status --short --wait 1m", &format!("● {address}\n"));
    house.fail(
        "status --server 127.0.0.1:1",
        "Error: Get \"https://127.0.0.1:1/v1/status\": dial tcp 127.0.0.1:1: connect: connection refused\n\
         Hint: Is the server running? *\n",
    );
    house.fail(
        "ready --server 127.0.0.1:1 --wait 300ms",
        "Error: Get \"https://127.0.0.1:1/v1/ready\": *\nHint: *\n",
    );
    house.fail("status --wait -1s", "Error: invalid argument \"-1s\" for \"--wait\" flag: *\n");
    house.fail(
        "status --color sometimes",
        "Error: invalid argument \"sometimes\" for \"--color\" flag: *. See 'kes status --help'\n",
    );
}

#[test]
fn metrics_are_one_json_object_a_table_or_text() {
    let house = House::new();
    house.pipe("key create a", "");
    let metrics = house.json("metric --once");
    assert_eq!(metrics["kes_http_request_success"], 1);
    assert_eq!(metrics["kes_http_request_failure"], 0, "what has no sample yet is there, too");
    let mut up = 0;
    wait_for("a hundredth of a second", || {
        up = house.json("metric --once")["kes_system_up_time"].as_u64().unwrap();
        up > 0
    });
    assert!(up >= 9_999_999, "in nanoseconds: {up}");
    assert!(metrics["kes_http_response_time"]["10000000000"].as_u64().is_some());
    let ran = house.run("metric --once --prometheus", "");
    assert!(ran.code == 0 && ran.out.contains("\nkes_http_request_success{code=\"200\"} 1\n"), "{ran:?}");
    house.terminal(
        "metric --once --color never",
        &format!(
            "● {}\n\nRequest         OK [2xx]        Err [4xx]       Err [5xx]       Req/s           Latency\n\
             *1 100.0%        0 0.0%          0 0.0%          0.0             *ms\n\n\
             System          UpTime          Heap            Stack           CPUs            Threads\n*\n",
            house.address
        ),
    );
    house.fail(
        "metric --prometheus --json",
        "Error: --prometheus cannot be used with --json. See 'kes metric --help'\n",
    );
    house.fail("metric --rate 0", "Error: invalid argument \"0\" for \"--rate\" flag: *\n");
}

#[test]
fn a_refused_call_says_who_was_refused() {
    let house = House::new();
    let stranger = house.server.dir.identity("stranger", &[]);
    for line in ["status", "ls", "key create a", "policy ls", "identity ls", "metric", "log", "key dek a"] {
        let ran = house.run(&format!("{line} --key stranger.key --cert stranger.crt"), "");
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}: {ran:?}");
        let hint = format!("not authorized: insufficient permissions\nHint: This client is {stranger}; *\n");
        assert!(is_like(&ran.err, &format!("Error: *{hint}")), "{line}: {ran:?}");
    }
}

#[test]
fn what_there_is_not_any_more_is_refused_politely() {
    let house = House::new();
    for (line, pattern) in [
        ("update", "Error: kes does not update itself\nHint: *\n"),
        ("update -k -d -o x --os linux --arch amd64 v0.21.0", "Error: kes does not update itself\nHint: *\n"),
        ("init --config x", "Error: 'kes init' is not supported\nHint: *\n"),
        ("enclave create x", "Error: 'kes enclave' is not supported\nHint: *\n"),
        ("secret ls", "Error: 'kes secret' is not supported\nHint: *\n"),
        ("policy assign a b", "Error: 'kes policy assign' is not supported\nHint: *\n"),
        ("policy create a b", "Error: 'kes policy create' is not supported\nHint: *\n"),
        ("policy rm a", "Error: 'kes policy rm' is not supported\nHint: *\n"),
        ("identity rm a", "Error: 'kes identity rm' is not supported\nHint: *\n"),
        (
            "key creat a",
            "Error: \"creat\" is not a key command. See 'kes key --help'\nHint: Did you mean 'create'?\n",
        ),
        ("stats", "Error: \"stats\" is not a kes command. See 'kes --help'\nHint: Did you mean 'status'?\n"),
        ("key ls a b", "Error: too many arguments. See 'kes key ls --help'\n"),
        (
            "log --audit --error",
            "Error: cannot show the audit log and the error log at once. See 'kes log --help'\n",
        ),
    ] {
        house.fail(line, pattern);
    }
    for line in ["key", "policy", "log --audit=false"] {
        let ran = house.run(line, "");
        assert!(ran.code == 2 && ran.out.is_empty() && ran.err.starts_with("Usage:\n"), "{line}: {ran:?}");
    }
    for line in ["key --help", "help key dek", "status -h", "log --help"] {
        let ran = house.run(line, "");
        assert!(ran.code == 0 && ran.err.is_empty() && ran.out.starts_with("Usage:\n"), "{line}: {ran:?}");
    }
}
